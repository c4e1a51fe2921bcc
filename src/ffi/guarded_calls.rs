//! Each function that Python calls guards its thread: a test reads the sources, those of the bridge's
//! crate as well, and looks for the call. See [`finalizing`](super::finalizing).

use std::fs;
use std::path::Path;

/// Calls that guard the thread, themselves or as their first step.
const GUARDS: [&str; 9] = [
    "enter(",
    "entered(",
    "destroy(",
    "trashcan::dealloc(",
    "finalizing::guard(",
    "step::<T>(",
    "T::dealloc(",
    "Self::watch(",
    "Self::unwatch(",
];

/// Functions that run no Python code, and those that only guarded code calls.
const UNGUARDED: [&str; 37] = [
    // For the garbage collector, which must not be disturbed.
    "traverse",
    "__traverse__",
    // They return what a field holds.
    "__aiter__",
    "__getbuffer__",
    "get_blocking",
    "get_closed",
    "get_debug_flag",
    "get_dict",
    "get_origin",
    "get_stopping",
    "get_thread_id",
    "itself",
    "looks_numeric",
    "time",
    // They store a number, or nothing.
    "_write_to_self",
    "set_closed",
    "set_ready",
    "set_scheduled",
    "set_stopping",
    "set_thread_id",
    // For libc.
    "after",
    "before",
    "in_child",
    "forget_last",
    "park_if_finalizing",
    "report_exit",
    "never_run",
    // For OpenSSL, which may have given the GIL up.
    "control_wire",
    "destroy_wire",
    "read_wire",
    "write_wire",
    // The table through which the bridge uses a loop.
    "begin",
    "drop_target",
    "finish",
    "keep",
    "wake",
    "is_forgotten",
];

/// The table's functions that get a loop.
const FOREIGN: [&str; 3] = ["new_target", "park", "release"];

fn sources(folder: &Path, into: &mut Vec<String>) {
    for entry in fs::read_dir(folder).expect("the sources are here") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|it| it == "rs") {
            into.push(fs::read_to_string(&path).expect("readable"));
        }
    }
}

/// The name of the function that a line begins, and whether it is C's.
fn function(line: &str) -> Option<(&str, bool)> {
    let line = line.trim_start();
    let line = line.strip_prefix("pub ").unwrap_or(line);
    let line = line.strip_prefix("unsafe ").unwrap_or(line);
    let (line, of_c) = match line.strip_prefix("extern \"C\" ") {
        Some(rest) => (rest, true),
        None => (line, false),
    };
    let name = line.strip_prefix("fn ")?.split(|c: char| !c.is_alphanumeric() && c != '_');
    name.into_iter().next().filter(|name| !name.is_empty()).map(|name| (name, of_c))
}

#[test]
fn all_that_python_calls_guards_its_thread() {
    let mut files = Vec::new();
    for folder in ["src", "crates/tokioloop-bridge/src"] {
        sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), &mut files);
    }
    let mut seen = 0;
    for file in files {
        let (mut methods, mut exported) = (false, false);
        let lines: Vec<_> = file.lines().collect();
        for (at, line) in lines.iter().enumerate() {
            methods = (methods || *line == "#[pymethods]") && *line != "}";
            exported = exported || *line == "#[pyfunction]";
            let Some((name, of_c)) = function(line) else { continue };
            let depth = line.len() - line.trim_start().len();
            let called = of_c || exported || (methods && depth == 4);
            exported = false;
            if !called || UNGUARDED.contains(&name) || FOREIGN.contains(&name) {
                continue;
            }
            seen += 1;
            let end = format!("{}}}", &line[..depth]);
            let body = lines[at..].iter().take_while(|it| **it != end);
            let guarded = body.flat_map(|line| GUARDS.iter().filter(|it| line.contains(**it)));
            assert!(guarded.count() > 0, "{name} must call `finalizing::guard()` first");
        }
    }
    assert!(seen > 60, "the sources are read in another way than they are written");
}
