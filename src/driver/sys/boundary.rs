//! Keeps all other sources to names that every Unix has.

use std::fs;
use std::path::Path;

/// Names of `libc` that other modules may use: the same on every Unix, and laid out alike.
const EVERYWHERE: [&str; 37] = [
    "AF_INET",
    "AF_INET6",
    "AF_UNIX",
    "AF_UNSPEC",
    "AI_NUMERICHOST",
    "AI_NUMERICSERV",
    "AI_PASSIVE",
    "EBADF",
    "ECHILD",
    "EIO",
    "EINTR",
    "EMFILE",
    "ENFILE",
    "ENOBUFS",
    "ENOENT",
    "ENOMEM",
    "ENOTCONN",
    "ENOTSOCK",
    "IPPROTO_TCP",
    "IPPROTO_UDP",
    "MSG_DONTWAIT",
    "SOCK_DGRAM",
    "SOCK_RAW",
    "SOCK_STREAM",
    "c_char",
    "c_int",
    "c_long",
    "c_short",
    "c_uint",
    "c_ulong",
    "close",
    "getpid",
    "pause",
    "pid_t",
    "pthread_self",
    "pthread_t",
    "size_t",
];

/// Other words by which code depends on a platform.
const ELSEWHERE: [&str; 5] =
    ["target_os", "target_env", "Interest::PRIORITY", "std::os::linux", "\"/proc"];

/// The lines of code that may not be there, with their files.
fn violations(folder: &Path, own: &Path, into: &mut Vec<String>) {
    for entry in fs::read_dir(folder).expect("the sources are here") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            if path != own {
                violations(&path, own, into);
            }
        } else if path.extension().is_some_and(|it| it == "rs") {
            let text = fs::read_to_string(&path).expect("readable");
            let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
            let wrong = code.filter(|line| !is_portable(line));
            into.extend(wrong.map(|line| format!("{}: {}", path.display(), line.trim())));
        }
    }
}

fn is_portable(line: &str) -> bool {
    let is_word = |it: char| it.is_alphanumeric() || it == '_';
    let mut names = line.match_indices("libc").filter(|(at, _)| !line[..*at].ends_with(is_word));
    let all_known = names.all(|(at, _)| {
        let rest = &line[at + "libc".len()..];
        match rest.strip_prefix("::") {
            Some(name) => EVERYWHERE.contains(&name.split(|it| !is_word(it)).next().unwrap_or("")),
            // `use libc`, under whatever name. (A word that goes on is another one.)
            None => rest.starts_with(is_word),
        }
    });
    all_known && !ELSEWHERE.iter().any(|it| line.contains(it))
}

#[test]
fn only_this_module_names_a_platform() {
    let sources = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src"));
    let mut found = Vec::new();
    violations(sources, &sources.join("driver/sys"), &mut found);
    assert!(
        found.is_empty(),
        "put it into `src/driver/sys/linux` and its contract into `src/driver/sys/mod.rs`:\n{}",
        found.join("\n")
    );
}

#[test]
fn a_platforms_own_names_are_seen() {
    for line in ["libc::epoll_wait(fd)", "x = libc::EBADF | libc::EPOLLIN;", "use libc::stat;"] {
        assert!(!is_portable(line), "{line}");
    }
    for line in ["use libc;", "#[cfg(target_os = \"linux\")]", "a | Interest::PRIORITY"] {
        assert!(!is_portable(line), "{line}");
    }
    for line in ["libc::EBADF", "let x: libc::c_int = 0;", "my_libc::epoll_wait()"] {
        assert!(is_portable(line), "{line}");
    }
}
