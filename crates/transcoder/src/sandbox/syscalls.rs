//! Which system calls a child may make. Three filters hold together, the sternest answer wins:
//!
//! - what media code never needs and an intruder does (sockets, exec, fork, ptrace, mounts, …) kills the process by SIGSYS;
//! - `clone3` is said not to exist, because a filter cannot see its flags; the C library then uses `clone`;
//! - what is not in the table of allowed calls fails with EPERM.
//!
//! Files are Landlock's part ([`super::files`]): here `openat` is a call like others.

use std::collections::BTreeMap;
use std::io;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, apply_filter_all_threads,
};

/// A call, and the arguments that it must have, if it is not any. Several rows of one call are alternatives.
type Rule = (libc::c_long, &'static [Argument]);

/// An argument by its index, a mask over it, and what must remain.
struct Argument(u8, u64, u64);

const ANY: &[Argument] = &[];
const NOT_EXECUTABLE: &[Argument] = &[Argument(2, libc::PROT_EXEC as u64, 0)];
const A_THREAD: &[Argument] = &[Argument(
    0,
    libc::CLONE_THREAD as u64,
    libc::CLONE_THREAD as u64,
)];
const A_PROCESS: &[Argument] = &[Argument(0, libc::CLONE_THREAD as u64, 0)];
const ITSELF: &[Argument] = &[Argument(0, u64::MAX >> 32, 0)];
/// Duplicates, descriptor flags and reading the status flags; not who gets a signal, not leases, not locks.
const FOR_ITSELF: &[Argument] = &[Argument(1, u64::MAX >> 32 & !3, 0)];
const A_DUPLICATE: &[Argument] = &[Argument(1, u64::MAX >> 32, libc::F_DUPFD_CLOEXEC as u64)];
/// What has no name could not be counted.
const NAMED: &[Argument] = &[Argument(
    2,
    libc::O_TMPFILE as u64 & !(libc::O_DIRECTORY as u64),
    0,
)];
const A_NAME: &[Argument] = &[Argument(0, u64::MAX >> 32, libc::PR_SET_NAME as u64)];

/// What decoding, filtering, encoding and writing into one's folder take.
const ALLOWED: &[Rule] = &[
    // Descriptors and files.
    (libc::SYS_read, ANY),
    (libc::SYS_readv, ANY),
    (libc::SYS_pread64, ANY),
    (libc::SYS_write, ANY),
    (libc::SYS_writev, ANY),
    (libc::SYS_pwrite64, ANY),
    (libc::SYS_lseek, ANY),
    (libc::SYS_openat, NAMED),
    (libc::SYS_close, ANY),
    (libc::SYS_fstat, ANY),
    (libc::SYS_newfstatat, ANY),
    (libc::SYS_statx, ANY),
    (libc::SYS_fcntl, FOR_ITSELF),
    (libc::SYS_fcntl, A_DUPLICATE),
    (libc::SYS_ftruncate, ANY),
    (libc::SYS_fsync, ANY),
    (libc::SYS_fdatasync, ANY),
    (libc::SYS_ppoll, ANY),
    // Memory, never both filled and run.
    (libc::SYS_brk, ANY),
    (libc::SYS_mmap, NOT_EXECUTABLE),
    (libc::SYS_mprotect, NOT_EXECUTABLE),
    (libc::SYS_mremap, ANY),
    (libc::SYS_munmap, ANY),
    (libc::SYS_madvise, ANY),
    // Threads.
    (libc::SYS_clone, A_THREAD),
    (libc::SYS_clone3, ANY), // the second filter answers
    (libc::SYS_futex, ANY),
    (libc::SYS_set_robust_list, ANY),
    (libc::SYS_rseq, ANY),
    (libc::SYS_sched_yield, ANY),
    (libc::SYS_sched_getaffinity, ANY),
    (libc::SYS_gettid, ANY),
    (libc::SYS_getpid, ANY),
    (libc::SYS_prctl, A_NAME),
    (libc::SYS_prlimit64, ITSELF),
    (libc::SYS_getrusage, ANY),
    (libc::SYS_exit, ANY),
    (libc::SYS_exit_group, ANY),
    // Time and chance.
    (libc::SYS_clock_gettime, ANY),
    (libc::SYS_clock_getres, ANY),
    (libc::SYS_clock_nanosleep, ANY),
    (libc::SYS_nanosleep, ANY),
    (libc::SYS_gettimeofday, ANY),
    (libc::SYS_restart_syscall, ANY),
    (libc::SYS_getrandom, ANY),
    // Signals to itself: `abort`. The rule for `tgkill` is made when the process knows its number.
    (libc::SYS_rt_sigaction, ANY),
    (libc::SYS_rt_sigprocmask, ANY),
    (libc::SYS_rt_sigreturn, ANY),
    (libc::SYS_sigaltstack, ANY),
];

/// What nothing but an intruder asks for.
const DEADLY: &[Rule] = &[
    (libc::SYS_socket, ANY),
    (libc::SYS_socketpair, ANY),
    (libc::SYS_connect, ANY),
    (libc::SYS_bind, ANY),
    (libc::SYS_listen, ANY),
    (libc::SYS_accept, ANY),
    (libc::SYS_accept4, ANY),
    (libc::SYS_recvfrom, ANY),
    (libc::SYS_recvmmsg, ANY),
    (libc::SYS_sendmmsg, ANY),
    (libc::SYS_setsockopt, ANY),
    (libc::SYS_sendto, ANY),
    (libc::SYS_sendmsg, ANY),
    (libc::SYS_recvmsg, ANY),
    (libc::SYS_execve, ANY),
    (libc::SYS_execveat, ANY),
    (libc::SYS_clone, A_PROCESS),
    (libc::SYS_ptrace, ANY),
    (libc::SYS_process_vm_readv, ANY),
    (libc::SYS_process_vm_writev, ANY),
    (libc::SYS_kill, ANY),
    (libc::SYS_tkill, ANY),
    (libc::SYS_rt_sigqueueinfo, ANY),
    (libc::SYS_rt_tgsigqueueinfo, ANY),
    (libc::SYS_pidfd_open, ANY),
    (libc::SYS_pidfd_send_signal, ANY),
    (libc::SYS_io_uring_setup, ANY),
    (libc::SYS_io_uring_enter, ANY),
    (libc::SYS_io_uring_register, ANY),
    (libc::SYS_symlinkat, ANY),
    (libc::SYS_linkat, ANY),
    (libc::SYS_mknodat, ANY),
    (libc::SYS_fchmod, ANY),
    (libc::SYS_fchmodat, ANY),
    (libc::SYS_fchown, ANY),
    (libc::SYS_fchownat, ANY),
    (libc::SYS_memfd_create, ANY),
    (libc::SYS_name_to_handle_at, ANY),
    (libc::SYS_open_by_handle_at, ANY),
    (libc::SYS_open_tree, ANY),
    (libc::SYS_move_mount, ANY),
    (libc::SYS_fsopen, ANY),
    (libc::SYS_mount, ANY),
    (libc::SYS_umount2, ANY),
    (libc::SYS_pivot_root, ANY),
    (libc::SYS_chroot, ANY),
    (libc::SYS_unshare, ANY),
    (libc::SYS_setns, ANY),
    (libc::SYS_setuid, ANY),
    (libc::SYS_setgid, ANY),
    (libc::SYS_setreuid, ANY),
    (libc::SYS_setregid, ANY),
    (libc::SYS_setresuid, ANY),
    (libc::SYS_setresgid, ANY),
    (libc::SYS_setgroups, ANY),
    (libc::SYS_capset, ANY),
    (libc::SYS_personality, ANY),
    (libc::SYS_kcmp, ANY),
    (libc::SYS_pidfd_getfd, ANY),
    (libc::SYS_process_madvise, ANY),
    (libc::SYS_bpf, ANY),
    (libc::SYS_perf_event_open, ANY),
    (libc::SYS_userfaultfd, ANY),
    (libc::SYS_keyctl, ANY),
    (libc::SYS_add_key, ANY),
    (libc::SYS_request_key, ANY),
    (libc::SYS_init_module, ANY),
    (libc::SYS_finit_module, ANY),
    (libc::SYS_delete_module, ANY),
    (libc::SYS_kexec_load, ANY),
    (libc::SYS_reboot, ANY),
];

/// Older names of the same, which newer machines never had.
#[cfg(target_arch = "x86_64")]
const DEADLY_TOO: &[Rule] = &[
    (libc::SYS_fork, ANY),
    (libc::SYS_vfork, ANY),
    (libc::SYS_symlink, ANY),
    (libc::SYS_link, ANY),
    (libc::SYS_mknod, ANY),
    (libc::SYS_chmod, ANY),
    (libc::SYS_chown, ANY),
];
#[cfg(not(target_arch = "x86_64"))]
const DEADLY_TOO: &[Rule] = &[];

/// Puts the filters on this process for good. They can only be made stricter.
pub(super) fn filter() -> io::Result<()> {
    let this = u64::from(std::process::id());
    let to_itself = [Argument(0, u64::MAX >> 32, this)];
    let mut allowed = rules(ALLOWED)?;
    allowed.insert(libc::SYS_tgkill, vec![rule(&to_itself)?]);
    let errno = |errno: i32| SeccompAction::Errno(errno.unsigned_abs());
    let absent = BTreeMap::from([(libc::SYS_clone3, vec![])]);
    // The last to come answers first among those that fail a call: the one that knows `clone3` only comes before.
    let mut deadly = rules(DEADLY)?;
    deadly.extend(rules(DEADLY_TOO)?);
    let filters = [
        (deadly, SeccompAction::Allow, SeccompAction::KillProcess),
        (absent, SeccompAction::Allow, errno(libc::ENOSYS)),
        (allowed, errno(libc::EPERM), SeccompAction::Allow),
    ];
    for (rules, otherwise, on_match) in filters {
        let target = std::env::consts::ARCH
            .try_into()
            .map_err(io::Error::other)?;
        let filter = SeccompFilter::new(rules, otherwise, on_match, target);
        let program: BpfProgram = filter
            .and_then(TryInto::try_into)
            .map_err(io::Error::other)?;
        apply_filter_all_threads(&program).map_err(io::Error::other)?;
    }
    Ok(())
}

fn rules(table: &[Rule]) -> io::Result<BTreeMap<i64, Vec<SeccompRule>>> {
    let mut rules = BTreeMap::<_, Vec<_>>::new();
    for (call, arguments) in table {
        let alternatives = rules.entry(*call).or_default();
        if !arguments.is_empty() {
            alternatives.push(rule(arguments)?);
        }
    }
    Ok(rules)
}

fn rule(arguments: &[Argument]) -> io::Result<SeccompRule> {
    let condition = |Argument(index, mask, value): &Argument| {
        let operator = SeccompCmpOp::MaskedEq(*mask);
        SeccompCondition::new(*index, SeccompCmpArgLen::Qword, operator, *value)
    };
    let conditions: Result<Vec<_>, _> = arguments.iter().map(condition).collect();
    conditions
        .and_then(SeccompRule::new)
        .map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_call_is_both_wanted_and_deadly_or_bound_in_one_row_and_free_in_another() {
        for (call, arguments) in ALLOWED {
            let deadly = DEADLY.iter().chain(DEADLY_TOO).find(|(one, _)| one == call);
            assert!(deadly.is_none() || *call == libc::SYS_clone, "{call}");
            let same = ALLOWED.iter().filter(|(one, _)| one == call);
            assert!(same.count() == 1 || !arguments.is_empty(), "{call}");
        }
    }
}
