//! The commands for the forensic host, run by bash with stand-ins for what would touch a disk.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;

use super::*;

/// Runs the script with these answers of `blkid`, by partition, and gives what was called and what was printed.
async fn run(kinds: &[(&str, &str)], parts: &str) -> (Vec<String>, String) {
    let world = isolated().await;
    let order = order(&world, &named(&[A])).await.unwrap();
    let attached = operator(&world).make_volumes(&order, &|_| ()).await.unwrap();
    let disk = attached.disks[0].path.clone().unwrap();
    static RUN: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let run = RUN.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let folder = PathBuf::from(format!("target/tmp/mount-{}-{run}", std::process::id()));
    std::fs::create_dir_all(folder.join("bin")).unwrap();
    let folder = folder.canonicalize().unwrap();
    let stand_in = |name: &str, text: &str| {
        let path = folder.join("bin").join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    };
    let log = folder.join("log");
    let logged = format!("echo \"$(basename $0) $*\" >> {}", log.display());
    stand_in("sudo", "exec \"$@\"");
    stand_in("blockdev", &logged);
    stand_in("mkdir", "exit 0");
    stand_in("mountpoint", "exit 1");
    stand_in("mount", &format!("{logged}\ncase \"$*\" in *broken*) exit 32 ;; esac"));
    stand_in("lsblk", &format!("printf '%b' '{parts}'"));
    let kinds: String = kinds.iter().map(|(part, kind)| format!("{part}) echo {kind} ;;\n")).collect();
    stand_in("blkid", &format!("for last; do :; done\ncase $last in\n{kinds}esac"));
    // The disk is there, by its name.
    let here = folder.join("disk");
    std::fs::write(&here, "").unwrap();
    let script = attached.script.replace(&disk, &here.display().to_string());
    assert_ne!(script, attached.script);
    let path = format!("{}:{}", folder.join("bin").display(), std::env::var("PATH").unwrap());
    let output = Command::new("bash").arg("-c").arg(&script).env("PATH", path).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let calls = std::fs::read_to_string(&log).unwrap_or_default().lines().map(str::to_owned).collect();
    std::fs::remove_dir_all(&folder).unwrap();
    (calls, String::from_utf8(output.stdout).unwrap())
}

#[tokio::test(start_paused = true)]
async fn every_partition_is_read_only_before_any_is_mounted_with_the_options_of_its_kind() {
    let parts = "/dev/d\\n/dev/d1\\n/dev/d2\\n/dev/d3\\n/dev/d4\\n/dev/d5\\n";
    let kinds =
        [("/dev/d1", "ext4"), ("/dev/d2", "xfs"), ("/dev/d3", "btrfs"), ("/dev/d4", "ntfs"), ("/dev/d5", "swap")];
    let (calls, said) = run(&kinds, parts).await;
    let (first, rest) = calls.split_at(6);
    assert!(first.iter().all(|call| call.starts_with("blockdev --setro /dev/d")), "{calls:?}");
    let at = format!("/evidence/{A}/vol-{}", A.trim_start_matches("i-"));
    let safe = "nodev,nosuid,noexec";
    assert_eq!(
        rest,
        [
            format!("mount -t ext4 -o ro,noload,{safe} /dev/d1 {at}/d1"),
            format!("mount -t xfs -o ro,norecovery,nouuid,{safe} /dev/d2 {at}/d2"),
            format!("mount -t btrfs -o ro,rescue=nologreplay,{safe} /dev/d3 {at}/d3"),
            format!("mount -t ntfs3 -o ro,{safe} /dev/d4 {at}/d4"),
        ]
    );
    assert!(said.contains(&format!("/dev/d2: xfs, mounted at {at}/d2\n")), "{said}");
}

#[tokio::test(start_paused = true)]
async fn what_is_no_file_system_or_cannot_be_mounted_is_named() {
    let parts = "/dev/d\\n/dev/d1\\n/dev/d2\\n/dev/broken\\n";
    let kinds = [("/dev/d1", "LVM2_member"), ("/dev/d2", "crypto_LUKS"), ("/dev/broken", "ext4")];
    let (_, said) = run(&kinds, parts).await;
    assert_eq!(
        said,
        "/dev/d1: LVM2_member, which is no file system\n/dev/d2: crypto_LUKS, which is no file system\n/dev/broken: ext4, NOT mounted\n"
    );
}
