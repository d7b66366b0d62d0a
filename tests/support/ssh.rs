//! Two real ssh servers on 127.0.0.1: a forensic host, and an isolated instance behind it, each in a scratch root with stand-ins for what
//! would touch the machine. They run as who runs the tests, and end with the test.

use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// What the stand-in for AVML is, until a test says otherwise. Like AVML it takes no link for its file.
const AVML: &str = r#"#!/bin/sh
[ "$1" = --version ] && { echo "avml 0.21.0"; exit 0; }
[ "$1 $2 $#" = "acquire --source 4" ] || { echo "error: unrecognized subcommand" >&2; exit 2; }
[ -p "$4" ] || { echo "Too many levels of symbolic links" >&2; exit 1; }
root=../../..; pipe=$4
. $root/behaviour
"#;
/// 5 MiB of memory with a hole.
const IOMEM: &str = "00000000-00000fff : Reserved\n00001000-0009ffff : System RAM\n00100000-004fffff : System RAM\n  00200000-002fffff : Kernel code\n";

const SSHD: &str = "/usr/sbin/sshd";

struct Server {
    process: Child,
    port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The desk with both servers.
pub struct Desk {
    pub root: PathBuf,
    host: Server,
    instance: Server,
}

impl Desk {
    /// Everything is as it should be. `None` on a machine without OpenSSH's server, whose package README names: that says so.
    #[allow(clippy::print_stderr)] // Who runs the tests reads it.
    pub fn new() -> Option<Self> {
        if !Path::new(SSHD).is_file() {
            eprintln!("no {SSHD}: the capture of memory was not tried");
            return None;
        }
        static RUN: AtomicU32 = AtomicU32::new(0);
        let run = RUN.fetch_add(1, Ordering::Relaxed);
        let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("memory-{}-{run}", std::process::id()));
        let _ = std::fs::remove_dir_all(&root);
        for folder in ["desk", "host/bin", "instance/bin", "instance/proc", "instance/sys/kernel/security"] {
            std::fs::create_dir_all(root.join(folder)).unwrap();
        }
        std::fs::create_dir_all(root.join("instance/dev/shm")).unwrap();
        keygen(&root.join("key"));
        let host = serve(&root, "host", "");
        let paths = ["/proc/", "/sys/", "/dev/shm"];
        let paths = paths.map(|path| format!("-e \"s#{path}#$root{path}#g\""));
        let instance = serve(&root, "instance", &paths.join(" "));
        let desk = Self { root, host, instance };
        desk.write("avml", AVML);
        desk.write("instance/behaviour", "cat $root/image > $pipe\n");
        desk.write("instance/bin/sudo", "#!/bin/sh\n[ \"$1\" = -n ] && shift\nexec \"$@\"\n");
        desk.write("instance/proc/meminfo", "MemTotal:           4096 kB\nMemFree:  1 kB\n");
        desk.write("instance/proc/iomem", IOMEM);
        desk.write("instance/proc/kcore", "");
        desk.write("instance/sys/kernel/security/lockdown", "[none] integrity confidentiality\n");
        std::fs::write(desk.root.join("instance/image"), memory()).unwrap();
        Some(desk)
    }

    /// Where the forensic host listens.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.host.port)
    }

    /// Where the instance listens.
    pub fn instance(&self) -> String {
        format!("127.0.0.1:{}", self.instance.port)
    }

    pub fn path(&self, file: &str) -> PathBuf {
        self.root.join(file)
    }

    pub fn text(&self, file: &str) -> String {
        self.path(file).to_str().unwrap().to_owned()
    }

    pub fn write(&self, file: &str, content: &str) {
        std::fs::write(self.path(file), content).unwrap();
        std::fs::set_permissions(self.path(file), std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    pub fn read(&self, file: &str) -> String {
        std::fs::read_to_string(self.path(file)).unwrap_or_default()
    }

    /// Everything that was run on one of the machines.
    pub fn log(&self, machine: &str) -> String {
        self.read(&format!("{machine}/log"))
    }

    /// The instance is as before but for its log.
    #[track_caller]
    pub fn assert_clean(&self) {
        let scratch: Vec<_> = std::fs::read_dir(self.path("instance/dev/shm")).unwrap().collect();
        assert!(scratch.is_empty(), "{scratch:?}");
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = std::fs::remove_dir_all(&self.root);
        }
    }
}

pub fn user() -> String {
    let output = Command::new("id").arg("-un").output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

pub fn sha256(file: &Path) -> String {
    let output = Command::new("sha256sum").arg(file).output().unwrap();
    String::from_utf8(output.stdout).unwrap().split(' ').next().unwrap().to_owned()
}

fn keygen(file: &Path) {
    let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(file).status();
    assert!(made.expect("apt-get install openssh-client").success());
}

/// A record of LiME's: its header, and so many bytes.
pub fn record(first: u64, size: u64) -> Vec<u8> {
    let header = [0x1_4c69_4d45, first, first + size - 1, 0_u64].into_iter().flat_map(u64::to_le_bytes);
    header.chain((0..size).map(|n| (n % 251) as u8)).collect()
}

/// The whole memory of the instance.
pub fn memory() -> Vec<u8> {
    [record(0x1000, 0x9f000), record(0x10_0000, 0x40_0000)].concat()
}

/// A server whose commands run in the folder of this name, with the stand-ins of its `bin`, and with these paths changed.
fn serve(root: &Path, name: &str, paths: &str) -> Server {
    let folder = root.join(name);
    let (shown, key) = (folder.display(), folder.join("host-key"));
    keygen(&key);
    let paths = if paths.is_empty() { "cat".to_owned() } else { format!("sed {paths}") };
    let wrapper = format!(
        "#!/bin/sh\nroot={shown}\nPATH=$root/bin:$PATH; export PATH\ncd $root || exit 1\n\
         {{ echo \"$SSH_ORIGINAL_COMMAND\"; echo \"agent ${{SSH_AUTH_SOCK:-none}}\"; }} >> $root/log\necho $PPID > $root/session\n\
         command=$(printf '%s' \"$SSH_ORIGINAL_COMMAND\" | {paths})\nexec sh -c \"$command\"\n"
    );
    let wrapper_file = folder.join("wrapper");
    std::fs::write(&wrapper_file, wrapper).unwrap();
    std::fs::set_permissions(&wrapper_file, std::fs::Permissions::from_mode(0o755)).unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let config = format!(
        "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nPidFile none\nStrictModes no\nUsePAM no\nPasswordAuthentication no\n\
         KbdInteractiveAuthentication no\nAuthorizedKeysFile {}\nPermitRootLogin prohibit-password\nForceCommand {}\n",
        key.display(),
        root.join("key.pub").display(),
        wrapper_file.display()
    );
    std::fs::write(folder.join("sshd_config"), config).unwrap();
    if user() == "root" {
        // Where it parts with its privileges; the package's service makes it.
        let _ = std::fs::create_dir_all("/run/sshd");
    }
    let log = std::fs::File::create(folder.join("sshd.log")).unwrap();
    let mut command = Command::new(SSHD);
    command.args(["-D", "-e", "-f"]).arg(folder.join("sshd_config")).stdin(Stdio::null()).stdout(Stdio::null());
    let process = command.stderr(log).spawn().expect("apt-get install openssh-server");
    let server = Server { process, port };
    let began = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        let log = std::fs::read_to_string(folder.join("sshd.log")).unwrap_or_default();
        assert!(began.elapsed() < Duration::from_secs(10), "the ssh server does not listen: {log}");
        std::thread::sleep(Duration::from_millis(20));
    }
    server
}

/// What is in the folder for images of the forensic host.
pub fn images_of(desk: &Desk) -> Vec<String> {
    let found = std::fs::read_dir(desk.path("host/memory")).map(|all| all.map(|file| file.unwrap().file_name()));
    let mut names: Vec<String> = found.into_iter().flatten().map(|name| name.into_string().unwrap()).collect();
    names.sort();
    names
}
