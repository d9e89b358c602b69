//! For tests of what ends a process or fills it: runs a test again in a process of its own.

use std::env;
use std::os::unix::process::ExitStatusExt;
use std::process::{self, Command, ExitStatus};

/// How a child process ended.
#[derive(Debug)]
pub(crate) struct Ended {
    status: ExitStatus,
    stderr: String,
}

/// Runs `body` in a child process and returns what became of it.
///
/// `module` and `test` name the calling test: the child is this test binary, told to run that test
/// alone, and comes by here again.
pub(crate) fn run(module: &str, test: &str, body: impl FnOnce()) -> Ended {
    const IN_CHILD: &str = "MANIPLE_TEST_CHILD";
    if env::var_os(IN_CHILD).is_some() {
        body();
        process::exit(0);
    }
    let (_crate, module) = module.split_once("::").expect("a module within the crate");
    let output = Command::new(env::current_exe().expect("the path of the test binary"))
        .args([
            &format!("{module}::{test}"),
            "--exact",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(IN_CHILD, "1")
        .output()
        .expect("run the test binary");
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    Ended {
        status: output.status,
        stderr,
    }
}

impl Ended {
    /// What it said on standard error, having exited with `code`.
    #[track_caller]
    pub(crate) fn by_exit(self, code: i32) -> String {
        assert_eq!(
            self.status.code(),
            Some(code),
            "{}: {}",
            self.status,
            self.stderr
        );
        self.stderr
    }

    /// What it said on standard error, having died of `signal`.
    #[track_caller]
    pub(crate) fn by_signal(self, signal: i32) -> String {
        assert_eq!(
            self.status.signal(),
            Some(signal),
            "{}: {}",
            self.status,
            self.stderr
        );
        self.stderr
    }
}
