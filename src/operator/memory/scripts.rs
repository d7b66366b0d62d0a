//! What runs on the instance and on the forensic host, for a POSIX shell; only `receive` needs bash. No script holds a single quote, so that
//! a printed command stays readable.

use super::ssh::Route;

/// How the look ends if `sudo` asks for a password or refuses.
pub(super) const NO_SUDO: i32 = 20;

/// What there is to know of the instance before anything is copied to it. It changes nothing there.
pub(super) fn look() -> String {
    format!(
        r#"ram=$(sudo -n cat /proc/iomem) || exit {NO_SUDO}; echo machine $(uname -m); echo kernel $(uname -r); echo memory $(sed -n "s/^MemTotal: *\([0-9]*\) kB/\1/p" /proc/meminfo); echo lockdown $(cat /sys/kernel/security/lockdown 2>/dev/null); echo "$ram" | sed -n "s/^\([0-9a-f]*-[0-9a-f]*\) : System RAM/ram \1/p""#
    )
}

/// Takes AVML from standard input into a new folder that only the user can read, and says what arrived.
pub(super) fn place(scratch: &str) -> String {
    format!(
        r#"umask 077 && mkdir {scratch} && cat > {scratch}/avml && chmod 700 {scratch}/avml && echo sha256 $(sha256sum < {scratch}/avml) && sudo -n {scratch}/avml --version"#
    )
}

/// Writes the memory to standard output.
///
/// AVML opens its file again and follows no link, so that `/dev/stdout` is refused ("Too many levels of symbolic
/// links", AVML 0.17.0 to 0.21.0): it writes into a named pipe. One source is named, since a second one would begin in
/// the middle of the stream.
pub(super) fn read(scratch: &str) -> String {
    format!(
        r#"cd {scratch} || exit 1; rm -f pipe; mkfifo -m 600 pipe || exit 1; from=/proc/kcore; [ -e $from ] || from=/dev/crash; [ -e $from ] || from=/dev/mem; cat pipe & cat=$!; sudo -n ./avml acquire --source $from pipe >&2; rc=$?; [ $rc = 0 ] || kill $cat; wait $cat 2>/dev/null; exit $rc"#
    )
}

/// Takes away what [`place`] has made.
pub(super) fn clean(scratch: &str) -> String {
    format!("rm -rf {scratch}")
}

/// Makes the folder for images on the forensic host, takes the host keys from standard input, and says how much room there is.
pub(super) fn room(folder: &str) -> String {
    format!(r#"mkdir -p -m 700 {folder} && cat > {folder}/known_hosts && df -Pk {folder} | tail -n 1"#)
}

/// Reads the memory from the forensic host, by [`Route::from_host`], into a file there, and hashes it on the way.
///
/// It says how far it is once a second. If no program listens any more, it ends the reading.
pub(super) fn receive(route: &Route, scratch: &str, folder: &str, name: &str) -> String {
    let ssh = route.from_host("known_hosts");
    let receiver = format!(
        r#"cd "$1" || exit 1; f=$2; trap "" PIPE; {{ {{ echo $BASHPID > "$f.pid"; exec {ssh} "$0"; }} | tee "$f.partial" | sha256sum > "$f.sum"; echo "${{PIPESTATUS[*]}}" > "$f.status"; }} & all=$!; while kill -0 $all 2>/dev/null; do echo at $(stat -c %s "$f.partial" 2>/dev/null) || {{ kill $(cat "$f.pid"); break; }}; sleep 1; done; wait $all; echo status $(cat "$f.status"); rm -f "$f.pid" "$f.status""#
    );
    let read = read(scratch);
    format!("bash -c '{receiver}' '{read}' {folder} {name}")
}

/// Reads an image on the forensic host back from its disk: digest, size, and the header of each record.
pub(super) fn verify(folder: &str, name: &str) -> String {
    format!(
        r#"cd {folder} && f={name} && sync $f.partial && dd of=$f.partial oflag=nocache conv=notrunc,fdatasync count=0 status=none; echo streamed $(cat $f.sum); echo written $(sha256sum < $f.partial); n=$(stat -c %s $f.partial); echo bytes $n; o=0; while [ $o -lt $n ]; do set -- $(od -An -v -tu8 -N 32 -j $o $f.partial); echo record $*; [ $# = 4 ] && [ $3 -ge $2 ] || break; o=$((o + 33 + $3 - $2)); done"#
    )
}

/// Gives a whole image its name, and writes its digest beside it.
pub(super) fn keep(folder: &str, name: &str) -> String {
    format!(
        r#"cd {folder} && mv {name}.partial {name} && sed "s/-$/{name}/" {name}.sum > {name}.sha256 && rm -f {name}.sum && chmod 400 {name}"#
    )
}
