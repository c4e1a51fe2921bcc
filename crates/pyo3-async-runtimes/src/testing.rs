//! A test harness: an event loop needs the main thread, which `cargo test` does not give to tests.

use std::future::Future;
use std::pin::Pin;

use pyo3::PyResult;

/// The arguments of a test program.
#[derive(Default)]
pub struct Args {
    filter: Option<String>,
}

/// The arguments of this process: the first that is no option is a text that the names of the tests to
/// run contain.
pub fn parse_args() -> Args {
    Args { filter: std::env::args().skip(1).find(|arg| !arg.starts_with('-')) }
}

type TestFn = dyn Fn() -> Pin<Box<dyn Future<Output = PyResult<()>> + Send>> + Send + Sync;

/// A test, which the attribute `test` adds to the program's tests.
#[derive(Clone)]
pub struct Test {
    pub name: &'static str,
    pub test_fn: &'static TestFn,
}

impl Test {
    /// The test's future.
    pub fn task(&self) -> Pin<Box<dyn Future<Output = PyResult<()>> + Send>> {
        (self.test_fn)()
    }
}

inventory::collect!(Test);

/// Runs tests one after the other. Panics if one fails.
pub async fn test_harness(tests: Vec<Test>, args: Args) -> PyResult<()> {
    for test in tests {
        if args.filter.as_ref().is_none_or(|filter| test.name.contains(filter)) {
            if let Err(error) = test.task().await {
                panic!("test {} failed: {error}", test.name);
            }
            println!("test {} ... ok", test.name);
        }
    }
    Ok(())
}

/// Runs the program's tests that its arguments name.
pub async fn main() -> PyResult<()> {
    test_harness(inventory::iter::<Test>().cloned().collect(), parse_args()).await
}
