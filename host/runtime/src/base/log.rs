//! Where a guest's output goes.

use crate::meter::Meter;
use bytes::Bytes;
use parking_lot::Mutex;
use std::sync::Arc;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi_io::{
    poll::Pollable,
    streams::{OutputStream, StreamError, StreamResult},
};

/// Longest piece of a guest's output that becomes one log event.
const MAX_LINE: usize = 4 << 10;

/// What a guest writes to stdout or stderr, one log event per line, at level debug: it may hold a user's text.
#[derive(Clone)]
pub(super) struct Log {
    stream: &'static str,
    meter: Arc<Meter>,
    line: Arc<Mutex<Vec<u8>>>,
}

impl Log {
    pub(super) fn new(stream: &'static str, meter: Arc<Meter>) -> Self {
        Self {
            stream,
            meter,
            line: Arc::default(),
        }
    }

    fn emit(&self, line: &[u8]) {
        tracing::debug!(
            target: "ambit::guest",
            tenant = %self.meter.tenant().slug(),
            stream = self.stream,
            text = %String::from_utf8_lossy(line).escape_debug(),
        );
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        if Arc::strong_count(&self.line) == 1 {
            let line = std::mem::take(&mut *self.line.lock());
            if !line.is_empty() {
                self.emit(&line);
            }
        }
    }
}

impl IsTerminal for Log {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Log {
    /// For WASI 0.3, which this host does not link.
    fn async_stream(&self) -> Box<dyn tokio::io::AsyncWrite + Send + Sync> {
        Box::new(tokio::io::sink())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Log {
    async fn ready(&mut self) {}
}

impl OutputStream for Log {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.meter
            .charge_log(bytes.len() as u64)
            .map_err(|spent| StreamError::Trap(spent.into()))?;
        let mut line = self.line.lock();
        for byte in bytes {
            if byte != b'\n' {
                line.push(byte);
            }
            if byte == b'\n' || line.len() == MAX_LINE {
                self.emit(&line);
                line.clear();
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(MAX_LINE)
    }
}
