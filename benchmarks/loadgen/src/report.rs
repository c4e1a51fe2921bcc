//! What one run measured, without its warm-up, and how it is printed.

#[derive(Default)]
pub struct Report {
    pub seconds: f64,
    pub requests: u64,
    pub bytes: u64,
    /// The part of the time in which the load generator had something to do.
    pub client_busy: Option<f64>,
    pub server_cpu: Option<f64>,
    pub server_rss: Option<u64>,
    /// What the server keeps for a connection that says nothing.
    pub bytes_per_connection: Option<f64>,
    /// One entry per completed request, in nanoseconds; empty where there are no requests.
    pub latencies: Vec<u32>,
}

impl Report {
    pub fn into_json(mut self) -> String {
        self.latencies.sort_unstable();
        format!(
            "{{\"requests\": {}, \"bytes\": {}, \"seconds\": {:.6}, \"p50_us\": {}, \"p99_us\": {}, \
             \"client_busy\": {}, \"server_cpu_seconds\": {}, \"server_rss_bytes\": {}, \"bytes_per_connection\": {}}}",
            self.requests,
            self.bytes,
            self.seconds,
            or_null(self.percentile(0.50)),
            or_null(self.percentile(0.99)),
            or_null(self.client_busy),
            or_null(self.server_cpu),
            or_null(self.server_rss),
            or_null(self.bytes_per_connection),
        )
    }

    /// In microseconds.
    fn percentile(&self, fraction: f64) -> Option<f64> {
        let last = self.latencies.len().checked_sub(1)?;
        let index = (self.latencies.len() as f64 * fraction) as usize;
        Some(f64::from(self.latencies[index.min(last)]) / 1000.0)
    }
}

fn or_null(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "null".to_owned(), |value| value.to_string())
}
