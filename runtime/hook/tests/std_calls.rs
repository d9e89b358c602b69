//! The calls that std waits in, by its symbols: std moves.

use std::{collections::BTreeSet, process::Command};

/// Those that may wait for somebody, or for a disk, and are left as they are.
const LEFT: &[(&str, &str)] = &[
    (
        "close",
        "waits for a socket that lingers, and for a server of files",
    ),
    (
        "getpwuid_r",
        "asks a server of names for the home directory, where $HOME is not set",
    ),
    ("ioctl", "sets flags and asks for lengths"),
    ("pause", "is not called by what returns"),
    (
        "syscall",
        "is how std parks a thread, whose word is the thread's",
    ),
    ("__fxstat64", "is what is known of an open file, in memory"),
    ("__fxstatat64", "is called where there is no statx"),
    ("__lxstat64", "is called where there is no statx"),
    ("__xstat64", "is called where there is no statx"),
    ("chdir", "is the process's, at its start"),
    ("chroot", "is called by a child"),
    ("closedir", "is close"),
    ("fdopendir", "is of an open folder"),
    ("getcwd", "is of names, in memory"),
    ("lseek64", "is of a number, in memory"),
    ("opendir", "calls open within the C library"),
    (
        "readdir64",
        "has most names from its buffer, and is not seen to ask for more",
    ),
    ("realpath", "calls readlink within the C library"),
];

/// Those that wait for nobody, or for the kernel's own work alone.
const NEVER_WAIT: &str = "
    _ITM_deregisterTMCloneTable _ITM_registerTMCloneTable _Unwind_Backtrace _Unwind_DeleteException
    _Unwind_FindEnclosingFunction _Unwind_GetCFA _Unwind_GetDataRelBase _Unwind_GetIP _Unwind_GetIPInfo
    _Unwind_GetLanguageSpecificData _Unwind_GetRegionStart _Unwind_GetTextRelBase _Unwind_RaiseException
    _Unwind_Resume _Unwind_SetGR _Unwind_SetIP __cxa_finalize __cxa_thread_atexit_impl __errno_location
    __gmon_start__ __res_init __tls_get_addr __xpg_strerror_r environ dl_iterate_phdr dlsym
    gnu_get_libc_version gai_strerror getauxval sysconf

    _exit abort exit execvp fork kill killpg getpid getppid gettid getuid setgid setgroups setpgid setsid setuid
    pidfd_getpid pidfd_spawnp posix_spawnp posix_spawn_file_actions_addchdir
    posix_spawn_file_actions_addchdir_np posix_spawn_file_actions_adddup2 posix_spawn_file_actions_destroy
    posix_spawn_file_actions_init posix_spawnattr_destroy posix_spawnattr_init posix_spawnattr_setflags
    posix_spawnattr_setpgroup posix_spawnattr_setsigdefault

    bcmp memcmp memcpy memmove memset strlen strnlen calloc free malloc posix_memalign realloc mmap64
    mprotect munmap getenv setenv unsetenv getrandom gethostname clock_gettime

    pthread_attr_destroy pthread_attr_getguardsize pthread_attr_getstack pthread_attr_init
    pthread_attr_setstacksize pthread_create pthread_detach pthread_getattr_np pthread_key_create
    pthread_key_delete pthread_self pthread_setname_np pthread_setspecific sched_getaffinity sched_yield
    sigaction sigaddset sigaltstack sigemptyset signal

    bind dirfd dup dup2 freeaddrinfo getpeername getsockname getsockopt listen pipe2 setsockopt shutdown socket
    socketpair
";

#[test]
fn every_call_of_stds_is_hooked_left_for_a_reason_or_known_not_to_wait() {
    let called = undefined_of_std();
    assert!(called.contains("malloc"), "the symbols are read");
    let hooked = maniple_hook::names();
    let lists: [(&str, Vec<&str>); 3] = [
        ("hooked", hooked),
        ("LEFT", LEFT.iter().map(|(name, _)| *name).collect()),
        ("NEVER_WAIT", NEVER_WAIT.split_whitespace().collect()),
    ];
    for name in &called {
        let in_lists: Vec<_> = lists
            .iter()
            .filter(|(_, list)| list.contains(&&**name))
            .collect();
        let names: Vec<_> = in_lists.iter().map(|(list, _)| *list).collect();
        assert_eq!(
            names.len(),
            1,
            "{name} is in {names:?}: does it wait for anybody? Then hook it, or say in LEFT why not"
        );
    }
    for (left, _) in LEFT {
        assert!(called.contains(*left), "std does not call {left} any more");
    }
}

/// The names that std's shared library looks for in others.
fn undefined_of_std() -> BTreeSet<String> {
    let run = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output().unwrap();
        assert!(output.status.success(), "{program} {arguments:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let root = run(
        &std::env::var("RUSTC").unwrap_or("rustc".into()),
        &["--print", "sysroot"],
    );
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let folder = format!("{}/lib/rustlib/{target}/lib", root.trim());
    let mut files = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let is_std = |path: &std::path::PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.starts_with("libstd-") && name.ends_with(".so")
    };
    let std = files.find(is_std).expect("std as a shared library");
    let symbols = run("nm", &["-D", "--undefined-only", std.to_str().unwrap()]);
    let names = symbols
        .lines()
        .filter_map(|line| line.split_whitespace().last());
    // Without its version.
    names
        .filter_map(|name| name.split('@').next())
        .map(str::to_owned)
        .collect()
}
