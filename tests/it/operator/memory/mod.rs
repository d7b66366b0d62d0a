//! `memory` on two real ssh servers, with a stand-in for AVML: what comes of it in each situation, and what is left where.

mod bench;
mod refused;

use std::process::Command;

use ec2_isolation::operator::{Incomplete, NotReadable, Why};

use self::bench::{Bench, Watching};
use super::operator;
use crate::A;
use crate::ssh::{images_of, memory, record, sha256};

#[tokio::test(start_paused = true)]
async fn an_image_goes_to_the_forensic_host_and_is_read_back() {
    let Some(bench) = Bench::new().await else { return };
    let image = bench.run("host").await.unwrap();
    let file = bench.path("host").join(&image.file);
    assert_eq!(std::fs::read(&file).unwrap(), memory());
    assert_eq!((image.place, image.bytes, image.records), ("host", memory().len() as u64, 2));
    assert_eq!(image.sha256, sha256(&file));
    assert_eq!((image.memory_total, image.system_ram, image.left_out), (4 << 20, 0x9f000 + 0x40_0000, 0));
    assert_eq!((image.avml.as_str(), &image.avml_sha256), ("avml 0.21.0", &sha256(&bench.path("avml"))));
    assert!(image.left.is_empty(), "{image:?}");
    // The digest beside it is one that sha256sum takes.
    let name = file.file_name().unwrap().to_str().unwrap().to_owned();
    assert_eq!(images_of(&bench), [&name, &format!("{name}.sha256"), "known_hosts"].map(str::to_owned));
    let mut check = Command::new("sha256sum");
    check.args(["--check", &format!("{name}.sha256")]).current_dir(file.parent().unwrap());
    assert!(check.output().unwrap().status.success());
    bench.assert_clean();
}

#[tokio::test(start_paused = true)]
async fn an_image_goes_to_the_desk_and_is_read_back() {
    let Some(bench) = Bench::new().await else { return };
    let image = bench.run("a.lime").await.unwrap();
    assert_eq!(std::fs::read(bench.path("desk/a.lime")).unwrap(), memory());
    assert_eq!((image.place, image.bytes, image.records), ("desk", memory().len() as u64, 2));
    assert_eq!(image.sha256, sha256(&bench.path("desk/a.lime")));
    assert!(!bench.path("desk/a.lime.partial").exists());
    assert_eq!(images_of(&bench), [""; 0]);
    bench.assert_clean();
}

/// The forensic host has one while it reads; the instance never.
#[tokio::test(start_paused = true)]
async fn the_instance_never_sees_an_agent() {
    let Some(bench) = Bench::new().await else { return };
    bench.run("host").await.unwrap();
    bench.run("a.lime").await.unwrap();
    let log = bench.log("instance");
    assert!(log.contains("agent none") && log.matches("agent ").count() == log.matches("agent none").count(), "{log}");
    let log = bench.log("host");
    let with_agent = log.lines().filter(|line| line.starts_with("agent ") && *line != "agent none").count();
    assert_eq!(with_agent, 1, "{log}");
}

#[tokio::test(start_paused = true)]
async fn an_image_is_in_the_history_of_the_record_and_in_the_report() {
    let Some(bench) = Bench::new().await else { return };
    let capture = bench.capture("host").await;
    let watching = Watching::default();
    let image = capture.carry_out(&watching, &watching.stop).unwrap();
    let program = operator(&bench.world);
    assert_eq!(program.record_memory(&capture, &image).await, Ok(()));
    let history = bench.world.data().records[&A.parse().unwrap()].history.clone();
    let last = history.last().unwrap();
    let what = format!(
        "memory captured: {} bytes with SHA-256 {}, in {} on forensic host",
        image.bytes, image.sha256, image.file
    );
    assert!(
        last.contains(&what)
            && last.ends_with("(asked by arn:aws:iam::123456789012:user/x with ec2-isolation restore)"),
        "{last}"
    );
    let incident = program.incident(&program.incident_of(&A.parse().unwrap()).await.unwrap()).await.unwrap();
    let report = program.report(&incident, &bench.world, None).await.unwrap();
    let told = report.timeline.iter().find(|event| event.what.starts_with("memory captured: ")).unwrap();
    assert_eq!(
        (told.about.as_str(), told.who.as_str()),
        (A, "arn:aws:iam::123456789012:user/x with ec2-isolation restore")
    );
    // Whoever holds the record now has not asked for it.
    bench.world.data().records.get_mut(&A.parse().unwrap()).unwrap().owner.logical_id = "Other".to_owned();
    let lost = program.record_memory(&capture, &image).await;
    assert_eq!(lost, Err(format!("the record of {A} has changed hands")));
}

/// Each in a shell, as a person pastes it.
#[tokio::test(start_paused = true)]
async fn what_is_printed_can_be_pasted() {
    for to in ["host", "a.lime"] {
        let Some(bench) = Bench::new().await else { return };
        let capture = bench.capture(to).await;
        for step in capture.steps() {
            let ran = Command::new("sh").args(["-c", &step.command]).current_dir(bench.path("desk")).output().unwrap();
            let said = String::from_utf8_lossy(&ran.stderr).into_owned();
            assert!(ran.status.success(), "{}: {}\n{said}", step.what, step.command);
        }
        let file = match to {
            "host" => {
                bench.path("host/memory").join(images_of(&bench).iter().find(|name| name.ends_with(".lime")).unwrap())
            }
            file => bench.path("desk").join(file),
        };
        assert_eq!(std::fs::read(file).unwrap(), memory(), "{to}");
        bench.assert_clean();
    }
}

/// AVML leaves zeros out: smaller than the memory, and whole.
#[tokio::test(start_paused = true)]
async fn an_image_without_the_zeros_is_whole() {
    let Some(bench) = Bench::new().await else { return };
    bench.write("instance/proc/iomem", "00001000-0009ffff : System RAM\n00100000-0fffffff : System RAM\n");
    bench.write("instance/proc/meminfo", "MemTotal:         253952 kB\n");
    let image = [record(0x1000, 0x9f000), record(0xfe0_0000, 0x20_0000)].concat();
    std::fs::write(bench.path("instance/image"), &image).unwrap();
    for to in ["host", "a.lime"] {
        let captured = bench.run(to).await.unwrap();
        assert_eq!((captured.bytes, captured.left_out), (image.len() as u64, 0xfd0_0000), "{to}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_image_that_stops_below_the_top_of_the_memory_is_truncated() {
    let Some(bench) = Bench::new().await else { return };
    bench.write("instance/proc/iomem", "00001000-0009ffff : System RAM\n00100000-0fffffff : System RAM\n");
    bench.write("instance/proc/meminfo", "MemTotal:         253952 kB\n");
    for to in ["host", "a.lime"] {
        let broken = bench.broken(to).await;
        let (held, memory, missing) = (0x9f000 + 0x40_0000, 253_952 << 10, 0xfb0_0000);
        let why = Incomplete::Truncated { held, memory, missing };
        assert_eq!(broken.why, Why::NotWhole { instance: A.to_owned(), why }, "{to}");
        assert!(!broken.is_refused && broken.left[0].contains(".partial"), "{broken:?}");
        bench.assert_clean();
    }
    assert!(bench.path("desk/a.lime.partial").exists() && !bench.path("desk/a.lime").exists());
    assert!(!images_of(&bench).iter().any(|name| name.ends_with(".lime")), "{:?}", images_of(&bench));
}

#[tokio::test(start_paused = true)]
async fn an_image_that_ends_within_a_record_is_broken_off() {
    let Some(bench) = Bench::new().await else { return };
    bench.write("instance/behaviour", "head -c 700000 $root/image > $pipe\n");
    for to in ["host", "a.lime"] {
        let missing = memory().len() as u64 - 700_000;
        let why = Why::NotWhole { instance: A.to_owned(), why: Incomplete::BrokenOff(missing) };
        assert_eq!(bench.broken(to).await.why, why, "{to}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_no_image_is_no_image() {
    let Some(bench) = Bench::new().await else { return };
    bench.write("instance/behaviour", "echo it works, says the attacker, and goes on for more than a header > $pipe\n");
    for to in ["host", "a.lime"] {
        let why = Why::NotWhole { instance: A.to_owned(), why: Incomplete::Strange(0) };
        assert_eq!(bench.broken(to).await.why, why, "{to}");
    }
}

/// Somebody on the instance wants the disk of the evidence full.
#[tokio::test(start_paused = true)]
async fn a_stream_without_end_is_ended() {
    let Some(bench) = Bench::new().await else { return };
    bench.write("instance/behaviour", "cat $root/image /dev/zero > $pipe\n");
    for to in ["host", "a.lime"] {
        let broken = bench.broken(to).await;
        let most = 0x9f000 + 0x40_0000 + (16 << 20);
        assert!(
            matches!(&broken.why, Why::TooMuch { bytes, most: limit, .. } if *limit == most && *bytes > most),
            "{broken:?}"
        );
        bench.assert_clean();
    }
}

#[tokio::test(start_paused = true)]
async fn avml_that_fails_is_shown_with_what_it_says() {
    let Some(bench) = Bench::new().await else { return };
    bench.write("instance/behaviour", "printf 'Error: \\033[31mlocked down /proc/kcore\\n' >&2; exit 1\n");
    for to in ["host", "a.lime"] {
        let broken = bench.broken(to).await;
        let Why::AvmlFailed { code, said, instead, .. } = &broken.why else { panic!("{broken:?}") };
        // No colour of the attacker's.
        assert_eq!((*code, said.as_str()), (1, "Error: [31mlocked down /proc/kcore"), "{to}");
        assert!(instead.starts_with("Hibernation was not turned on at its launch"), "{instead}");
        bench.assert_clean();
    }
}

#[tokio::test(start_paused = true)]
async fn avml_that_is_killed_leaves_no_image() {
    let Some(bench) = Bench::new().await else { return };
    bench.write("instance/behaviour", "head -c 100000 $root/image > $pipe; kill -9 $$\n");
    for to in ["host", "a.lime"] {
        let broken = bench.broken(to).await;
        assert!(matches!(broken.why, Why::AvmlFailed { code: 137, .. }), "{to}: {broken:?}");
    }
}

/// The server of the instance ends the session in the middle.
#[tokio::test(start_paused = true)]
async fn a_connection_that_is_lost_leaves_a_part_that_is_named() {
    let Some(bench) = Bench::new().await else { return };
    bench.write(
        "instance/behaviour",
        "exec 3> $pipe; head -c 1000000 $root/image >&3; sleep 2; kill $(cat $root/session); sleep 1; exit 1\n",
    );
    for to in ["host", "a.lime"] {
        let broken = bench.broken(to).await;
        assert!(matches!(broken.why, Why::Lost { bytes: 1_000_000, .. }), "{to}: {broken:?}");
        assert!(broken.left[0].contains("is a part of an image"), "{broken:?}");
        bench.assert_clean();
    }
    assert_eq!(std::fs::metadata(bench.path("desk/a.lime.partial")).unwrap().len(), 1_000_000);
}

#[tokio::test(start_paused = true)]
async fn who_presses_ctrl_c_is_told_what_is_left() {
    let Some(bench) = Bench::new().await else { return };
    bench.write(
        "instance/behaviour",
        "exec 3> $pipe; while head -c 100000 $root/image >&3; do sleep 0.1; done; exit 1\n",
    );
    for to in ["host", "a.lime"] {
        let capture = bench.capture(to).await;
        let watching = Watching { is_impatient: true, ..Watching::default() };
        let broken = capture.carry_out(&watching, &watching.stop).unwrap_err();
        assert!(matches!(broken.why, Why::Stopped(1..)), "{to}: {broken:?}");
        assert!(broken.left.len() == 1 && broken.left[0].contains(".partial"), "{broken:?}");
        bench.assert_clean();
    }
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_becomes_full_is_named() {
    let Some(bench) = Bench::new().await else { return };
    bench.write(
        "host/bin/tee",
        "#!/bin/sh\nhead -c 1000 > \"$1\"\necho \"tee: $1: No space left on device\" >&2\nexit 1\n",
    );
    let broken = bench.broken("host").await;
    let Why::Full { place, said, .. } = &broken.why else { panic!("{broken:?}") };
    assert!(place.starts_with("forensic host 127.0.0.1:") && said.contains("No space left on device"), "{broken:?}");
    bench.assert_clean();
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_keeps_something_else_than_it_was_given_is_named() {
    let Some(bench) = Bench::new().await else { return };
    bench.write(
        "host/bin/tee",
        "#!/bin/sh\n/usr/bin/tee \"$1\"\nprintf x | dd of=\"$1\" bs=1 seek=50 conv=notrunc 2>/dev/null\n",
    );
    let broken = bench.broken("host").await;
    assert!(
        matches!(&broken.why, Why::Differs { streamed, written, .. } if streamed != written && written.len() == 64),
        "{broken:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_kernel_that_lets_nobody_read_is_named_before_anything_is_copied() {
    let Some(bench) = Bench::new().await else { return };
    bench.write("instance/sys/kernel/security/lockdown", "none integrity [confidentiality]\n");
    let broken = bench.broken("host").await;
    assert!(broken.is_refused);
    assert!(matches!(&broken.why, Why::NotReadable { why: NotReadable::LockedDown(_), .. }), "{broken:?}");
    assert!(!bench.log("instance").contains("mkdir"), "{}", bench.log("instance"));
    // Of Secure Boot: /proc/kcore can be read.
    bench.write("instance/sys/kernel/security/lockdown", "none [integrity] confidentiality\n");
    assert!(bench.run("host").await.is_ok());
}
