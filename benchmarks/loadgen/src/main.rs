//! A client that never sleeps, and the server without an interpreter that loops are held against.
//!
//! As a client it loads a server in one of several ways (`loads`), speaking one of several
//! protocols, checks what comes back and prints one line of JSON. It spins on `epoll_wait` with a
//! timeout of zero because a client that sleeps must be woken, and on a virtual machine that
//! wake-up (an interrupt sent to another core) is paid for by whoever sends the data: the server
//! that is being measured.

mod args;
mod channels;
mod epoll;
mod loads;
mod protocols;
mod report;
mod serve;
mod system;

use std::process::ExitCode;

use args::Command;

fn main() -> ExitCode {
    let outcome = args::parse(std::env::args().skip(1)).and_then(|command| match command {
        Command::Serve(args) => serve::run(&args),
        Command::Load(args) => loads::run(&args).map(|report| println!("{}", report.into_json())),
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("loadgen: {error}");
            ExitCode::FAILURE
        }
    }
}
