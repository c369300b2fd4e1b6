//! The system calls around a child: before exec, after it, and to end it.

use std::fs::{File, Permissions};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, fchown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};

use rustix::fs::{Mode, OFlags};

use super::Layer;
use crate::limits::Limits;

/// Starts `exe stage-child` in `folder` with the inputs as descriptors of the same numbers.
///
/// All children are started by one thread that never ends: the kernel sends the death signal when the starting
/// *thread* ends, and threads of a pool do.
pub fn start(exe: &Path, inputs: &[&File], folder: &Path) -> io::Result<Child> {
    type Order = (PathBuf, Vec<File>, PathBuf, Sender<io::Result<Child>>);
    static STARTER: OnceLock<Sender<Order>> = OnceLock::new();
    let starter = STARTER.get_or_init(|| {
        let (orders, queue) = channel::<Order>();
        std::thread::spawn(move || {
            for (exe, inputs, folder, answer) in queue {
                // Nobody waits any more when the answer cannot be sent; then the child dies with its control pipe.
                drop(answer.send(start_here(&exe, &inputs, &folder)));
            }
        });
        orders
    });
    let (answer, result) = channel();
    let gone = |_| io::Error::other("the starting thread is gone");
    let inputs = inputs.iter().map(|input| input.try_clone());
    let inputs = inputs.collect::<io::Result<_>>()?;
    starter
        .send((exe.to_owned(), inputs, folder.to_owned(), answer))
        .map_err(|_| io::ErrorKind::BrokenPipe)?;
    result.recv().map_err(gone)?
}

#[expect(unsafe_code, reason = "a closure between fork and exec")]
fn start_here(exe: &Path, inputs: &[File], folder: &Path) -> io::Result<Child> {
    let fds: Vec<RawFd> = inputs.iter().map(File::as_raw_fd).collect();
    let numbers: Vec<String> = fds.iter().map(RawFd::to_string).collect();
    let mut command = Command::new(exe);
    command
        .arg("stage-child")
        .arg(numbers.join(","))
        .current_dir(folder)
        .env_clear()
        // libav brings a numeric library that would start threads before `main`, which no layer would reach.
        .envs([("OPENBLAS_NUM_THREADS", "1"), ("OMP_NUM_THREADS", "1")])
        .process_group(0);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    // SAFETY: the calls are async-signal-safe and change nothing of the parent's memory.
    unsafe {
        command.pre_exec(move || {
            // Elsewhere the end of its control pipe is all that tells a child of its parent's.
            #[cfg(target_os = "linux")]
            check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL))?;
            fds.iter()
                .try_for_each(|fd| check(libc::fcntl(*fd, libc::F_SETFD, 0)))
        });
    }
    command.spawn()
}

/// Gives up rights: the first thing a child does, before any thread. `writes` says whether it makes files in its working
/// directory; else it may not touch that either. Returns the layers that hold and those that failed.
pub fn confine(
    inputs: &[RawFd],
    limits: &Limits,
    writes: bool,
) -> (Vec<Layer>, Vec<(Layer, io::Error)>) {
    let (mut held, mut failed) = (Vec::new(), Vec::new());
    let alone = alone();
    for layer in Layer::wanted() {
        let applied = match (&alone, layer) {
            (
                Err(error),
                Layer::NoNewPrivileges
                | Layer::NoCapabilities
                | Layer::OwnFilesOnly
                | Layer::FewSystemCalls,
            ) => Err(io::Error::other(error.to_string())),
            _ => apply(layer, inputs, limits, writes),
        };
        match applied {
            Ok(()) => held.push(layer),
            Err(error) => failed.push((layer, error)),
        }
    }
    (held, failed)
}

#[cfg(target_os = "linux")]
fn apply(layer: Layer, inputs: &[RawFd], limits: &Limits, writes: bool) -> io::Result<()> {
    match layer {
        Layer::FirstToGo => std::fs::write("/proc/self/oom_score_adj", "1000"),
        Layer::ClosedDescriptors => close_others(inputs),
        Layer::ResourceLimits => set_limits(limits),
        Layer::NoNewPrivileges => no_new_privileges(),
        Layer::OtherUser => become_nobody(),
        Layer::NoCapabilities => drop_capabilities(),
        Layer::OwnFilesOnly => super::files::restrict(writes),
        Layer::FewSystemCalls => super::syscalls::filter(),
    }
}

/// The other layers are calls of Linux.
#[cfg(not(target_os = "linux"))]
fn apply(layer: Layer, _: &[RawFd], limits: &Limits, _: bool) -> io::Result<()> {
    match layer {
        Layer::ResourceLimits => set_limits(limits),
        _ => Err(io::ErrorKind::Unsupported.into()),
    }
}

/// An input that the parent left open for this process.
///
/// # Errors
/// If nothing is open under that number.
#[expect(unsafe_code, reason = "takes over a descriptor by number")]
pub fn inherited(fd: RawFd) -> io::Result<File> {
    // SAFETY: fcntl only reads the descriptor table; the caller is the child's main, which owns this number alone.
    unsafe {
        check(libc::fcntl(fd, libc::F_GETFD))?;
        Ok(File::from_raw_fd(fd))
    }
}

/// The user and group that own nothing, by the number that Linux gives them.
const NOBODY: u32 = 65_534;

/// Whether this process runs as root, with all of root's rights or not.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Gives a folder to the user that children are.
pub fn give(folder: &Path) -> io::Result<()> {
    if is_root() && cfg!(target_os = "linux") {
        chown(folder, Some(NOBODY), Some(NOBODY))
    } else {
        Ok(())
    }
}

/// Opens a file that a child has made in `folder` and makes it ours. What is not a plain file with one name and at most
/// `most` bytes is refused; neither a link nor a pipe is followed or waited for.
pub fn open_made(folder: &Path, name: &str, most: u64) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let folder = File::open(folder)?;
    #[cfg(target_os = "linux")]
    let opened = rustix::fs::openat2(
        &folder,
        name,
        flags,
        Mode::empty(),
        rustix::fs::ResolveFlags::BENEATH | rustix::fs::ResolveFlags::NO_SYMLINKS,
    )?;
    #[cfg(not(target_os = "linux"))]
    let opened = rustix::fs::openat(&folder, name, flags, Mode::empty())?;
    let file = File::from(opened);
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.nlink() != 1 || !(1..=most).contains(&metadata.len()) {
        let wrong = "it is empty, too large or not a plain file";
        return Err(io::Error::new(io::ErrorKind::InvalidData, wrong));
    }
    if is_root() {
        fchown(&file, Some(0), Some(0))?;
    }
    file.set_permissions(Permissions::from_mode(0o644))?;
    Ok(file)
}

/// Kills a child and all in its process group.
///
/// # Errors
/// If the kernel does not let us: the child is another user's, and we may not kill those.
#[expect(
    unsafe_code,
    reason = "the standard library kills one process, not its group"
)]
pub fn kill_group(child: &Child) -> io::Result<()> {
    let group = i32::try_from(child.id()).map_err(io::Error::other)?;
    // SAFETY: a plain system call; the child is not yet waited for, so the number is still its own.
    check(unsafe { libc::kill(-group, libc::SIGKILL) })
}

#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "no safe wrapper among our dependencies")]
fn no_new_privileges() -> io::Result<()> {
    // SAFETY: plain system calls without pointers.
    unsafe {
        check(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))?;
        // Nor may other processes of this user look into it.
        check(libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0))?;
        match libc::prctl(libc::PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) {
            1 => Ok(()),
            _ => Err(io::Error::other("the kernel did not take it")),
        }
    }
}

/// Some layers reach the calling thread alone.
#[cfg(target_os = "linux")]
fn alone() -> io::Result<()> {
    match std::fs::read_dir("/proc/self/task")?.count() {
        1 => Ok(()),
        _ => Err(io::Error::other("a library has started a thread")),
    }
}

#[cfg(not(target_os = "linux"))]
fn alone() -> io::Result<()> {
    Ok(())
}

#[cfg(target_os = "linux")]
fn drop_capabilities() -> io::Result<()> {
    use rustix::thread::{CapabilitySet, CapabilitySets};
    rustix::thread::clear_ambient_capability_set()?;
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    rustix::thread::set_capabilities(None, none)?;
    Ok(())
}

#[cfg(target_os = "linux")]
#[expect(
    unsafe_code,
    reason = "the standard library changes the user of a new process only"
)]
fn become_nobody() -> io::Result<()> {
    // SAFETY: plain system calls; there is no other thread whose user could stay behind.
    unsafe {
        check(libc::setgroups(0, std::ptr::null()))?;
        check(libc::setresgid(NOBODY, NOBODY, NOBODY))?;
        check(libc::setresuid(NOBODY, NOBODY, NOBODY))?;
        // A change of user makes the kernel forget this.
        check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL))
    }
}

#[expect(unsafe_code, reason = "no safe wrapper among our dependencies")]
fn set_limits(limits: &Limits) -> io::Result<()> {
    let bounds = [
        (libc::RLIMIT_AS, limits.memory_bytes),
        (libc::RLIMIT_CPU, limits.cpu_seconds),
        (libc::RLIMIT_FSIZE, limits.max_output_bytes),
        (libc::RLIMIT_NOFILE, 64),
        (libc::RLIMIT_CORE, 0),
    ];
    for (resource, value) in bounds {
        let mut bound = libc::rlimit {
            rlim_cur: 0,
            rlim_max: 0,
        };
        // SAFETY: `bound` lives through both calls.
        unsafe {
            check(libc::getrlimit(resource, &raw mut bound))?;
            // A lower bound from outside stands.
            bound.rlim_cur = value.min(bound.rlim_max);
            // At the lower bound of CPU time comes the signal that says what it is, at the upper one SIGKILL.
            let later = if resource == libc::RLIMIT_CPU { 5 } else { 0 };
            bound.rlim_max = bound.rlim_max.min(bound.rlim_cur.saturating_add(later));
            check(libc::setrlimit(resource, &raw const bound))?;
        }
    }
    Ok(())
}

#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "closes descriptors by number")]
fn close_others(inputs: &[RawFd]) -> io::Result<()> {
    let inputs = inputs.iter().map(|input| u32::try_from(*input));
    let mut inputs = inputs
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| io::ErrorKind::InvalidInput)?;
    inputs.sort_unstable();
    let mut first = 3;
    for end in inputs.into_iter().map(Some).chain([None]) {
        let last = end.map_or(u32::MAX, |input| input.saturating_sub(1));
        if first <= last {
            // SAFETY: called before anything in this process opened a descriptor of its own.
            check(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) })?;
        }
        first = first.max(last.saturating_add(2));
    }
    Ok(())
}

fn check<T: Into<i64>>(returned: T) -> io::Result<()> {
    if returned.into() < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
