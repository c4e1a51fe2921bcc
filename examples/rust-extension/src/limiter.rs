//! A token bucket on tokio's timers.

use std::sync::Arc;
use std::time::Duration;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};
use tokioloop::bridge::future_into_py;

/// Gives out `rate` tokens a second; up to `burst` are saved up while nobody asks.
pub struct Bucket {
    rate: f64,
    burst: f64,
    level: Mutex<Level>,
}

struct Level {
    tokens: f64,
    at: Instant,
}

impl Bucket {
    /// Takes a token, first come, first served.
    pub async fn take(&self) {
        // Held while waiting, and tokio's mutex is fair: who waits for it stands in line. Whoever
        // is cancelled drops the guard, or leaves the line, and has taken nothing.
        let mut level = self.level.lock().await;
        loop {
            let now = Instant::now();
            let gained = now.duration_since(level.at).as_secs_f64() * self.rate;
            level.tokens = (level.tokens + gained).min(self.burst);
            level.at = now;
            if level.tokens >= 1.0 {
                level.tokens -= 1.0;
                return;
            }
            let missing = (1.0 - level.tokens) / self.rate;
            sleep(Duration::try_from_secs_f64(missing).unwrap_or(Duration::MAX)).await;
        }
    }
}

/// A rate limiter, to be shared by whoever is to be slowed down together.
#[pyclass(frozen, module = "fetchlimit")]
pub struct Limiter(Arc<Bucket>);

#[pymethods]
impl Limiter {
    #[new]
    #[pyo3(signature = (rate, burst = 1))]
    fn new(rate: f64, burst: u32) -> PyResult<Self> {
        if !(rate.is_finite() && rate > 0.0) {
            return Err(PyValueError::new_err("rate must be a positive number of tokens a second"));
        }
        if burst == 0 {
            return Err(PyValueError::new_err("burst must be at least 1"));
        }
        let burst = f64::from(burst);
        let level = Mutex::new(Level { tokens: burst, at: Instant::now() });
        Ok(Self(Arc::new(Bucket { rate, burst, level })))
    }

    /// Waits for a token, and takes it.
    fn acquire<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let bucket = self.bucket();
        future_into_py(py, async move {
            bucket.take().await;
            // `()` would be an empty tuple in Python.
            Ok(None::<()>)
        })
    }
}

impl Limiter {
    pub fn bucket(&self) -> Arc<Bucket> {
        Arc::clone(&self.0)
    }
}
