//! The server: on connections of its own, and on those that asyncio has accepted.

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use pyo3::prelude::*;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokioloop::bridge::{future_into_py, spawn, streams_into_io};

use crate::handler::Handler;

/// A server that listens; closed when it is dropped.
#[pyclass(frozen, module = "webtalk")]
pub struct Server {
    #[pyo3(get)]
    port: u16,
    /// The tasks of the server end when it is told to, or is gone.
    open: watch::Sender<bool>,
}

#[pymethods]
impl Server {
    /// Accepts no more connections, and ends those that are open after their current requests.
    fn close(&self) {
        self.open.send_replace(false);
    }
}

/// Listens on a port, 0 for any, and answers requests by `async def handler(method, path, body)`.
#[pyfunction]
#[pyo3(signature = (handler, host = "127.0.0.1", port = 0))]
pub fn serve<'py>(
    py: Python<'py>,
    handler: Bound<'py, PyAny>,
    host: &str,
    port: u16,
) -> PyResult<Bound<'py, PyAny>> {
    let handler = Handler::new(handler)?;
    let host = host.to_owned();
    future_into_py(py, async move {
        let listener = TcpListener::bind((host, port)).await?;
        let port = listener.local_addr()?.port();
        let (open, watched) = watch::channel(true);
        spawn(accept(listener, handler, watched));
        Ok(Server { port, open })
    })
}

async fn accept(listener: TcpListener, handler: Handler, watched: watch::Receiver<bool>) {
    let mut closing = watched.clone();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = closing.wait_for(|open| !open) => return,
        };
        // A connection that was lost while it waited is no reason to stop.
        let Ok((stream, _)) = accepted else { continue };
        let (handler, watched) = (handler.clone(), watched.clone());
        spawn(async move {
            // The client broke the protocol, or has gone: there is nobody to tell.
            let _ = converse(stream, handler, watched).await;
        });
    }
}

/// Answers the requests of one connection until it ends, or the server is closed.
async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    handler: Handler,
    mut watched: watch::Receiver<bool>,
) -> hyper::Result<()> {
    let service = service_fn(|request| handler.clone().answer(request));
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => return ended,
        _ = watched.wait_for(|open| !open) => connection.as_mut().graceful_shutdown(),
    }
    connection.await
}

/// Answers the requests of a connection of asyncio's, which may be one with TLS; done when that ends.
#[pyfunction]
pub fn serve_connection<'py>(
    py: Python<'py>,
    reader: Bound<'py, PyAny>,
    writer: Bound<'py, PyAny>,
    handler: Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let handler = Handler::new(handler)?;
    let stream = streams_into_io(reader, writer)?;
    future_into_py(py, async move {
        let (_open, watched) = watch::channel(true);
        // As above: the client's end of it is its own.
        let _ = converse(stream, handler, watched).await;
        Ok(())
    })
}
