//! `ec2-isolation memory`: the real program, a deployed incident, and two real ssh servers that stand for the forensic host and the instance.

use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::json;

use crate::Scene;
use crate::operator::{Ran, environment, operator, with_credentials};
use crate::ssh::{Desk, images_of, memory, record, sha256, user};

/// In the folder of the desk, so that what ssh needs is written there. `path` is where it finds programs.
fn captured(desk: &Desk, arguments: &[&str], path: &str) -> Ran {
    with_credentials(program(desk, arguments, path))
}

fn program(desk: &Desk, arguments: &[&str], path: &str) -> Command {
    let mut command = Command::new("/usr/bin/env");
    let program = std::fs::canonicalize(env!("CARGO_BIN_EXE_ec2-isolation")).unwrap();
    command.arg(format!("PATH={path}")).arg(program).args(arguments).current_dir(desk.path("desk"));
    command
}

/// The most memory that the program had, in bytes, while it took a large image to the desk.
fn peak_of_a_large_image(desk: &Desk, arguments: &[&str]) -> u64 {
    const SIZE: u64 = 192 << 20;
    let header = record(0x10_0000, 1).into_iter().take(16);
    let header = header.chain((0x10_0000 + SIZE - 1).to_le_bytes()).chain([0; 8]).collect::<Vec<u8>>();
    std::fs::write(desk.path("instance/image"), header).unwrap();
    desk.write("instance/behaviour", &format!("{{ cat $root/image; head -c {SIZE} /dev/zero; }} > $pipe\n"));
    desk.write("instance/proc/iomem", &format!("00100000-{:08x} : System RAM\n", 0x10_0000 + SIZE - 1));
    let mut command = program(desk, arguments, "/usr/bin:/bin");
    let mut child = environment(&mut command).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let mut peak = 0;
    while child.try_wait().unwrap().is_none() {
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let most = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        peak = most.and_then(|most| most.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(peak);
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(child.wait().unwrap().success());
    assert_eq!(std::fs::metadata(desk.path("desk/large.lime")).unwrap().len(), SIZE + 32);
    std::fs::remove_file(desk.path("desk/large.lime")).unwrap();
    peak << 10
}

#[tokio::test]
async fn memory_is_captured_after_the_isolation_only_and_is_in_the_case_file() {
    let scene = Scene::prepared("cli-memory").await;
    let a = scene.site.plain(&scene.ec2, &[0]).await;
    let b = scene.site.plain(&scene.ec2, &[1]).await;
    let Some(desk) = Desk::new() else { return };
    let (key, digest, name) = (desk.text("key"), sha256(&desk.path("avml")), user());
    let (host, address, avml) = (desk.host(), desk.instance(), desk.text("avml"));
    let mut arguments = vec!["memory", &a, "--key", &key, "--user", &name, "--host-user", &name];
    arguments.extend(["--host", &host, "--address", &address, "--avml", &avml, "--avml-sha256", &digest]);

    // B is isolated, A is not.
    operator(&["isolate", &b, "--stack", "cli-memory", "--yes"]).ends_with(0);
    let refused = captured(&desk, &arguments, "/usr/bin:/bin").ends_with(3);
    refused.says(&format!("Isolate it first: ec2-isolation isolate {a} --region us-east-1"));
    operator(&["isolate", &a, "--stack", "cli-memory", "--yes"]).ends_with(0);
    operator(&["memory", &a, "--key", &key]).ends_with(3).says("incident cli-memory has no forensic host");

    let printed = captured(&desk, &arguments, "/usr/bin:/bin").ends_with(0);
    printed.says(&format!("ssh -F cli-memory-memory/{a}.ssh {a} 'ram=$(sudo -n cat /proc/iomem)"));
    assert_eq!(desk.log("host"), "", "printing asks nobody");

    let run = |more: &[&'static str]| [arguments.as_slice(), &["--run"], more].concat();
    captured(&desk, &run(&[]), "/usr/bin:/bin").ends_with(3).says("there is no terminal to ask at; give --yes");
    let missing = captured(&desk, &run(&["--yes"]), "/nowhere").ends_with(3);
    missing.says("nothing was changed: ssh is not on this machine's PATH");
    let image = captured(&desk, &run(&["--yes", "--output", "json"]), "/usr/bin:/bin").ends_with(0).json();
    let file = images_of(&desk).into_iter().find(|name| name.ends_with(".lime")).unwrap();
    assert_eq!(std::fs::read(desk.path("host/memory").join(&file)).unwrap(), memory());
    assert_eq!(image["sha256"], sha256(&desk.path("host/memory").join(&file)).as_str());
    assert_eq!((&image["bytes"], &image["left"]), (&json!(memory().len()), &json!([])));
    desk.assert_clean();

    // Whatever the size of an image: three times as many bytes as the program may hold.
    let peak = peak_of_a_large_image(&desk, &run(&["--yes", "--to", "large.lime"]));
    assert!((1..64 << 20).contains(&peak), "{} MiB", peak >> 20);

    let report = operator(&["report", "--stack", "cli-memory", "--output", "json"]).ends_with(0).json();
    let events = report["timeline"].as_array().unwrap().iter();
    let told: Vec<_> =
        events.filter(|event| event["what"].as_str().unwrap().starts_with("memory captured: ")).collect();
    assert_eq!((told.len(), &told[0]["about"]), (2, &json!(a)));
    assert!(told[0]["who"].as_str().unwrap().ends_with("user/administrator with ec2-isolation memory"), "{told:?}");
    operator(&["restore", "--stack", "cli-memory", "--finish", "--yes"]).ends_with(0);
}
