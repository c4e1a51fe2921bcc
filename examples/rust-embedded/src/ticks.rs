//! A ticker: an async iterator on tokio's timers.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_core::Stream;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use tokio::time::{Instant, Interval, interval_at};
use tokioloop::bridge::stream_into_py;

struct Ticks {
    period: Duration,
    ticked: u32,
    count: u32,
    interval: Option<Interval>,
}

impl Stream for Ticks {
    type Item = PyResult<u32>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ticked == self.count {
            return Poll::Ready(None);
        }
        let period = self.period;
        // Made in the first poll: tokio's timers and sockets need the runtime that is to serve
        // them, and that is at hand only while a future or a stream is polled.
        let interval =
            self.interval.get_or_insert_with(|| interval_at(Instant::now() + period, period));
        ready!(interval.poll_tick(context));
        self.ticked += 1;
        Poll::Ready(Some(Ok(self.ticked)))
    }
}

/// Counts from 1 to `count`, a number each `seconds`.
#[pyfunction]
pub fn ticks(py: Python<'_>, seconds: f64, count: u32) -> PyResult<Bound<'_, PyAny>> {
    let period = Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|period| !period.is_zero())
        .ok_or_else(|| PyValueError::new_err("seconds must be a positive number"))?;
    stream_into_py(py, Ticks { period, ticked: 0, count, interval: None })
}
