//! Futures that need nobody but the loop.

use std::future::Future;
use std::time::Duration;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use tokio::sync::oneshot;

pub async fn ready() -> PyResult<()> {
    Ok(())
}

pub async fn yields() -> PyResult<()> {
    tokio::task::yield_now().await;
    Ok(())
}

pub async fn sleep(seconds: f64) -> PyResult<()> {
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
    Ok(())
}

/// What is handed over: where to hand it back.
struct Token(oneshot::Sender<Token>);

/// Two that hand a token to and fro, each so many times. Each hand-over wakes the other one, and
/// there is nothing else that they do.
pub fn players(
    passes: usize,
) -> (impl Future<Output = PyResult<()>>, impl Future<Output = PyResult<()>>) {
    let (to_one, one) = oneshot::channel();
    let (to_other, other) = oneshot::channel();
    // Cannot fail: the receiver is right here.
    let _ = to_one.send(Token(to_other));
    (play(one, passes), play(other, passes))
}

async fn play(mut inbox: oneshot::Receiver<Token>, passes: usize) -> PyResult<()> {
    for _ in 0..passes {
        let Token(back) =
            inbox.await.map_err(|_| PyRuntimeError::new_err("the other player has gone"))?;
        let (here, next) = oneshot::channel();
        // The last token of all finds nobody.
        let _ = back.send(Token(here));
        inbox = next;
    }
    Ok(())
}
