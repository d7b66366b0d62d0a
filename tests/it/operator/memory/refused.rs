//! What is refused before anything is copied to the instance.

use ec2_isolation::operator::ports::machines::Machine;
use ec2_isolation::operator::{Address, NoAvml, Why, Wish};

use super::super::status::isolated;
use super::super::{by_table, operator};
use super::bench::Bench;
use crate::A;
use crate::ssh::{images_of, sha256, user};
use crate::world::machines::machine;
use crate::world::operator::host_view;
use crate::world::{STACK, World, groups};

#[tokio::test(start_paused = true)]
async fn a_wrong_key_is_named_with_the_machine_that_refuses_it() {
    let Some(bench) = Bench::new().await else { return };
    let other = bench.text("other");
    assert!(
        std::process::Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-f", &other])
            .status()
            .unwrap()
            .success()
    );
    let mut wish = bench.wish("host");
    wish.key = Some(other.clone());
    let whom = format!("instance {A} (127.0.0.1:");
    not_let_in(&bench, wish, &whom, "--user and --key").await;
    let mut wish = bench.wish("host");
    wish.host_key = Some(other);
    not_let_in(&bench, wish, "forensic host 127.0.0.1:", "--host-user and --host-key").await;
}

async fn not_let_in(bench: &Bench, wish: Wish, expected: &str, with: &str) {
    let capture = bench.wished(wish).await;
    let broken = capture.carry_out(&super::Watching::default(), &false.into()).unwrap_err();
    let Why::NotLetIn { whom, said, options } = &broken.why else { panic!("{broken:?}") };
    assert!(broken.is_refused && whom.starts_with(expected) && *options == with, "{broken:?}");
    assert!(said.contains(&format!("{}@127.0.0.1: Permission denied (publickey)", user())), "{said}");
}

#[tokio::test(start_paused = true)]
async fn another_host_key_than_before_is_named() {
    let Some(bench) = Bench::new().await else { return };
    bench.run("host").await.unwrap();
    let known = bench.read("desk/ssh/known_hosts");
    let keys: Vec<&str> = known.lines().map(|line| line.split_once(' ').unwrap().1).collect();
    let (host, instance) = (keys[0], keys[1]);
    bench.write("desk/ssh/known_hosts", &known.replace(instance, "@@").replace(host, instance).replace("@@", host));
    let broken = bench.broken("host").await;
    let Why::OtherKey { whom, known_hosts, .. } = &broken.why else { panic!("{broken:?}") };
    assert!(whom.starts_with("forensic host ") && *known_hosts == bench.text("desk/ssh/known_hosts"), "{broken:?}");
}

#[tokio::test(start_paused = true)]
async fn what_does_not_answer_is_named() {
    let Some(bench) = Bench::new().await else { return };
    let mut wish = bench.wish("host");
    // Nothing listens there.
    wish.address = Some("127.0.0.1:1".parse().unwrap());
    let broken = bench.wished(wish).await.carry_out(&super::Watching::default(), &false.into()).unwrap_err();
    let Why::NotReached { whom, .. } = &broken.why else { panic!("{broken:?}") };
    assert_eq!(*whom, format!("instance {A} (127.0.0.1:1)"));
}

#[tokio::test(start_paused = true)]
async fn a_disk_without_room_is_named_before_anything_is_copied() {
    let Some(bench) = Bench::new().await else { return };
    let df = "#!/bin/sh\necho 'Filesystem 1024-blocks Used Available Capacity Mounted on'\necho '/dev/root 9000000 8000000 1000000 89% /'\n";
    bench.write("host/bin/df", df);
    let broken = bench.broken("host").await;
    let Why::NoRoom { place, free, needed } = &broken.why else { panic!("{broken:?}") };
    assert!(place.starts_with("forensic host "));
    assert_eq!((*free, *needed), (1_024_000_000, 0x9f000 + 0x40_0000 + (1 << 30)));
    assert!(broken.is_refused && !bench.log("instance").contains("mkdir"));
}

#[tokio::test(start_paused = true)]
async fn who_may_not_become_root_is_told() {
    let Some(bench) = Bench::new().await else { return };
    bench.write("instance/bin/sudo", "#!/bin/sh\necho 'sudo: a password is required' >&2\nexit 1\n");
    let broken = bench.broken("host").await;
    let said = "sudo: a password is required".to_owned();
    assert_eq!(broken.why, Why::NoSudo { user: user(), instance: A.to_owned(), said });
    assert!(broken.is_refused);
}

#[tokio::test(start_paused = true)]
async fn avml_that_cannot_be_run_there_is_taken_away_again() {
    let Some(bench) = Bench::new().await else { return };
    bench.write("avml", "#!/no/such/interpreter\n");
    let broken = bench.broken("host").await;
    assert!(
        matches!(&broken.why, Why::NotPlaced { scratch, .. } if scratch.starts_with("/dev/shm/ec2-isolation-")),
        "{broken:?}"
    );
    bench.assert_clean();
}

#[tokio::test(start_paused = true)]
async fn avml_with_another_checksum_is_not_copied() {
    let Some(bench) = Bench::new().await else { return };
    let (file, real) = (bench.text("avml"), sha256(&bench.path("avml")));
    let mut wish = bench.wish("host");
    wish.avml_sha256 = Some("0".repeat(64));
    let broken = bench.wished(wish.clone()).await.carry_out(&super::Watching::default(), &false.into()).unwrap_err();
    assert_eq!(broken.why, Why::Avml(NoAvml::Other { file: file.clone(), sha256: real.clone() }));
    wish.avml_sha256 = None;
    let broken = bench.wished(wish).await.carry_out(&super::Watching::default(), &false.into()).unwrap_err();
    assert_eq!(broken.why, Why::Avml(NoAvml::Unchecked { file, sha256: real }));
    // Nobody was asked anything.
    assert_eq!((bench.log("host"), bench.log("instance")), (String::new(), String::new()));
}

#[tokio::test(start_paused = true)]
async fn avml_of_another_processor_is_not_copied() {
    let Some(bench) = Bench::new().await else { return };
    let mut elf = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x03\0".to_vec();
    elf.extend(62_u16.to_le_bytes());
    std::fs::write(bench.path("avml"), &elf).unwrap();
    bench.world.data().machines.insert(A.parse().unwrap(), Machine { architecture: "arm64".to_owned(), ..machine() });
    let broken = bench.broken("host").await;
    let (file, needed) = (bench.text("avml"), "arm64".to_owned());
    assert_eq!(broken.why, Why::Avml(NoAvml::Processor { file, built: "x86_64", needed }));
    assert_eq!(bench.log("host"), "");
    // One for its own processor is copied, and is no program here.
    elf[18..20].copy_from_slice(&183_u16.to_le_bytes());
    std::fs::write(bench.path("avml"), &elf).unwrap();
    assert!(matches!(bench.broken("host").await.why, Why::NotPlaced { .. }));
}

#[tokio::test(start_paused = true)]
async fn no_image_is_written_over_another_one() {
    let Some(bench) = Bench::new().await else { return };
    bench.write("desk/a.lime", "an earlier one");
    assert_eq!(bench.broken("a.lime").await.why, Why::Taken(bench.text("desk/a.lime")));
    assert_eq!((bench.read("desk/a.lime").as_str(), images_of(&bench).len()), ("an earlier one", 0));
}

/// Why the program refuses, for A.
async fn refused(world: &World, change: impl FnOnce(&mut Wish)) -> String {
    let mut wish = Wish {
        user: "ubuntu".parse().unwrap(),
        key: None,
        address: None,
        host: Some("203.0.113.9".parse().unwrap()),
        host_user: "ubuntu".parse().unwrap(),
        host_key: None,
        avml: "avml".into(),
        avml_sha256: None,
        to: "host".parse().unwrap(),
        scratch: "/dev/shm".parse().unwrap(),
    };
    change(&mut wish);
    let program = operator(world);
    let incident = program.incident(&Address::Stack(STACK.to_owned())).await.unwrap();
    match program.memory(&incident, &A.parse().unwrap(), wish).await {
        Err(trouble) => trouble.to_string(),
        Ok(capture) => panic!("{capture:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_not_isolated_is_isolated_first() {
    let world = isolated().await;
    world.data().put_back(&"eni-0a".parse().unwrap(), groups(&["sg-0d"]));
    assert_eq!(
        refused(&world, |_| ()).await,
        format!(
            "nothing was changed: {A} is NOT ISOLATED (eni-0a moved out of the isolation, to [sg-0d]), and memory is captured after the \
             isolation only. Isolate it first: ec2-isolation isolate {A} --region us-east-1"
        )
    );
    // Another instance of the incident does not stand for it.
    let world = isolated().await;
    world.add("i-0c", crate::world::VPC, &[("eni-0e", &["sg-0b"])]);
    let program = operator(&world);
    let incident = program.incident(&by_table()).await.unwrap();
    let Some(bench) = Bench::new().await else { return };
    let wish = bench.wish("host");
    let unknown = program.memory(&incident, &"i-0c".parse().unwrap(), wish).await.unwrap_err().to_string();
    assert!(
        unknown.starts_with("nothing was changed: i-0c is not of incident ") && unknown.contains("isolate i-0c"),
        "{unknown}"
    );
}

#[tokio::test(start_paused = true)]
async fn without_a_forensic_host_there_is_no_way() {
    let world = isolated().await;
    let text = refused(&world, |wish| wish.host = None).await;
    assert!(
        text.contains(
            "has no forensic host, which the way to the instance leads through: make one (ec2-isolation host --stack"
        ),
        "{text}"
    );
    // One that is there and stopped.
    let name = world.data().views[0].name.clone();
    world.data().views.push(host_view(&name, "i-0f"));
    let stopped = Machine { state: "stopped".to_owned(), ..machine() };
    world.data().machines.insert("i-0f".parse().unwrap(), stopped);
    let text = refused(&world, |wish| wish.host = None).await;
    assert!(text.contains("forensic host i-0f is stopped and EC2 shows no public address of it"), "{text}");
}

/// Its address and the file of its key follow from the incident's own host.
#[tokio::test(start_paused = true)]
async fn the_forensic_host_of_the_incident_is_found() {
    let world = isolated().await;
    let name = world.data().views[0].name.clone();
    world.data().views.push(host_view(&name, "i-0f"));
    let found =
        Machine { public_address: Some("203.0.113.9".to_owned()), key_name: Some("ir".to_owned()), ..machine() };
    world.data().machines.insert("i-0f".parse().unwrap(), found);
    let Some(bench) = Bench::new().await else { return };
    let mut wish = bench.wish("host");
    (wish.host, wish.key, wish.host_key, wish.address) = (None, None, None, None);
    let program = operator(&world);
    let incident = program.incident(&Address::Stack(STACK.to_owned())).await.unwrap();
    let capture = program.memory(&incident, &A.parse().unwrap(), wish).await.unwrap();
    let (host, target) = (&capture.route.host, &capture.route.target);
    assert_eq!((host.at.to_string(), host.key.as_str()), ("203.0.113.9".to_owned(), "ir.pem"));
    assert_eq!((target.at.to_string(), target.key.as_str()), ("10.0.1.5".to_owned(), "web.pem"));
}

#[tokio::test(start_paused = true)]
async fn what_avml_cannot_read_is_named_with_what_else_there_is() {
    let world = isolated().await;
    let set = |machine| drop(world.data().machines.insert(A.parse().unwrap(), machine));
    set(Machine { platform: "Windows with SQL Server Standard".to_owned(), is_windows: true, ..machine() });
    let text = refused(&world, |_| ()).await;
    assert!(
        text.contains(&format!("{A} runs Windows with SQL Server Standard, whose memory AVML cannot read."))
            && text.contains("WinPmem")
            && text.contains("Hibernation was not turned on at its launch"),
        "{text}"
    );
    set(Machine { is_windows: true, can_hibernate: true, ..machine() });
    let text = refused(&world, |_| ()).await;
    assert!(
        text.contains(&format!("aws ec2 stop-instances --hibernate --instance-ids {A} --region us-east-1")),
        "{text}"
    );
    set(Machine { architecture: "i386".to_owned(), ..machine() });
    assert!(refused(&world, |_| ()).await.contains("has a processor of the kind i386"));
    set(Machine { state: "stopped".to_owned(), ..machine() });
    assert!(refused(&world, |_| ()).await.contains(&format!("{A} is stopped: its memory ended with that")));
    set(Machine { key_name: None, ..machine() });
    assert!(refused(&world, |_| ()).await.contains("was launched without a key pair"));
}
