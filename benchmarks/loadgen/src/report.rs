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
    /// How the server did with parts of its load.
    pub parts: Vec<Part>,
}

/// A load that was given by schedule.
pub struct Part {
    pub percent: f64,
    /// Requests a second, asked for.
    pub rate: f64,
    pub requests: u64,
    pub seconds: f64,
    pub client_busy: f64,
    pub server_cpu: Option<f64>,
    /// From when a request should have been sent, in nanoseconds.
    pub latencies: Vec<u32>,
}

impl Report {
    pub fn into_json(mut self) -> String {
        self.latencies.sort_unstable();
        format!(
            "{{\"requests\": {}, \"bytes\": {}, \"seconds\": {:.6}, \"p50_us\": {}, \"p99_us\": {}, \
             \"client_busy\": {}, \"server_cpu_seconds\": {}, \"server_rss_bytes\": {}, \
             \"bytes_per_connection\": {}, \"parts\": [{}]}}",
            self.requests,
            self.bytes,
            self.seconds,
            or_null(percentile(&self.latencies, 0.50)),
            or_null(percentile(&self.latencies, 0.99)),
            or_null(self.client_busy),
            or_null(self.server_cpu),
            or_null(self.server_rss),
            or_null(self.bytes_per_connection),
            self.parts.into_iter().map(Part::into_json).collect::<Vec<_>>().join(", "),
        )
    }
}

impl Part {
    fn into_json(mut self) -> String {
        self.latencies.sort_unstable();
        let [p50, p99, p999] =
            [0.50, 0.99, 0.999].map(|fraction| or_null(percentile(&self.latencies, fraction)));
        format!(
            "{{\"percent\": {}, \"rate\": {:.1}, \"requests\": {}, \"seconds\": {:.6}, \"client_busy\": {:.4}, \
             \"server_cpu_seconds\": {}, \"p50_us\": {p50}, \"p99_us\": {p99}, \"p999_us\": {p999}}}",
            self.percent,
            self.rate,
            self.requests,
            self.seconds,
            self.client_busy,
            or_null(self.server_cpu),
        )
    }
}

/// The least of the sorted `latencies` that this fraction of them does not exceed, in microseconds.
fn percentile(latencies: &[u32], fraction: f64) -> Option<f64> {
    let last = latencies.len().checked_sub(1)?;
    let index = (latencies.len() as f64 * fraction) as usize;
    Some(f64::from(latencies[index.min(last)]) / 1000.0)
}

fn or_null(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "null".to_owned(), |value| value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_one_of_the_latencies() {
        let latencies: Vec<u32> = (0..1000).map(|number| number * 1000).collect();
        assert_eq!(percentile(&latencies, 0.50), Some(500.0));
        assert_eq!(percentile(&latencies, 0.99), Some(990.0));
        assert_eq!(percentile(&latencies, 0.999), Some(999.0));
    }

    #[test]
    fn few_latencies_have_their_greatest_as_high_percentiles() {
        assert_eq!(percentile(&[1000, 9000], 0.99), Some(9.0));
        assert_eq!(percentile(&[1000], 1.0), Some(1.0));
        assert_eq!(percentile(&[], 0.5), None);
    }

    #[test]
    fn a_part_sorts_what_it_reports() {
        let part = Part {
            percent: 90.0,
            rate: 1000.0,
            requests: 3,
            seconds: 1.0,
            client_busy: 0.5,
            server_cpu: None,
            latencies: vec![3000, 1000, 2000],
        };
        assert_eq!(
            part.into_json(),
            "{\"percent\": 90, \"rate\": 1000.0, \"requests\": 3, \"seconds\": 1.000000, \
             \"client_busy\": 0.5000, \"server_cpu_seconds\": null, \"p50_us\": 2, \"p99_us\": 3, \"p999_us\": 3}"
        );
    }
}
