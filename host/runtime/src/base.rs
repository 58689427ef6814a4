//! The harmless base: what every guest of a standard toolchain imports, whatever it does.
//!
//! Linked for every component: wasi:cli (no environment, no arguments, an empty stdin; stdout and stderr go into the log budget; exit
//! is a trap), wasi:io, wasi:clocks and wasi:random. Never linked: wasi:filesystem and wasi:sockets. A guest built by Rust
//! 1.95 for `wasm32-wasip2` imports neither, unless it asks for a file or a socket; then admission says so.
//!
//! The implementations are wasmtime-wasi's, but for one rule of our own: *a pure component never waits*. It runs on one of the few
//! threads of the executor, where waiting would hold up other tenants and where no epoch could end it. So in pure stores a clock
//! gives no pollable, and a stream or poll that is not ready at once is a trap ([`Ready`]). wasmtime-wasi's synchronous variant
//! would block the thread, and start a tokio runtime of its own for it.
//!
//! The context behind it is made at the first use: most calls never ask for the time, and making one costs more than an empty call.

use crate::{
    call::{Call, Clock},
    meter::Meter,
};
use bytes::Bytes;
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use std::{
    convert::Infallible,
    fmt,
    future::Future,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::{Duration, SystemTime},
};
use wasmtime::component::{HasData, Linker, Resource, ResourceTable};
use wasmtime_wasi::{
    HostMonotonicClock, HostWallClock, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView,
    cli::{IsTerminal, StdoutStream, WasiCli, WasiCliView as _},
    clocks::{WasiClocks, WasiClocksCtxView, WasiClocksView as _},
    p2::bindings::{
        cli, clocks, random,
        sync::io::{poll as sync_poll, streams as sync_streams},
    },
    random::WasiRandom,
};
use wasmtime_wasi_io::{
    IoView,
    bindings::wasi::io::{error, poll, streams},
    poll::{DynPollable, Pollable},
    streams::{DynInputStream, DynOutputStream, OutputStream, StreamError, StreamResult},
};

/// Most bytes of randomness in one call of the guest.
const MAX_RANDOM: u64 = 64 << 10;

/// Longest piece of a guest's output that becomes one log event.
const MAX_LINE: usize = 4 << 10;

/// A store's side of the base.
pub(crate) struct Base {
    meter: Arc<Meter>,
    clock: Clock,
    ctx: Option<Box<WasiCtx>>,
}

impl Base {
    pub(crate) fn new(meter: Arc<Meter>, clock: Clock) -> Self {
        Self {
            meter,
            clock,
            ctx: None,
        }
    }

    /// Another call begins in this store. Streams the guest kept from the last one charge a call that is over, and fail.
    pub(crate) fn renew(&mut self, meter: Arc<Meter>, clock: Clock) {
        *self = Self::new(meter, clock);
    }

    fn ctx(&mut self) -> &mut WasiCtx {
        self.ctx.get_or_insert_with(|| {
            let mut builder = WasiCtxBuilder::new();
            builder
                .stdout(Log::new("stdout", self.meter.clone()))
                .stderr(Log::new("stderr", self.meter.clone()))
                .max_random_size(MAX_RANDOM);
            if let Clock::Turn { time, seed } = self.clock {
                let time = time
                    .duration_since(SystemTime::UNIX_EPOCH)
                    .unwrap_or_default();
                let mut insecure_seed = [0; 16];
                Seeded::new(seed, 0).fill(&mut insecure_seed);
                builder
                    .wall_clock(Stopped(time))
                    .monotonic_clock(Stopped(time))
                    .secure_random(Seeded::new(seed, 1))
                    .insecure_random(Seeded::new(seed, 2))
                    .insecure_random_seed(u128::from_le_bytes(insecure_seed));
            }
            Box::new(builder.build())
        })
    }
}

impl fmt::Debug for Base {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Base")
            .field("clock", &self.clock)
            .finish_non_exhaustive()
    }
}

impl<H: Send> WasiView for Call<H> {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: self.base.ctx(),
            table: &mut self.table,
        }
    }
}

impl<H: Send> IoView for Call<H> {
    fn table(&mut self) -> &mut ResourceTable {
        &mut self.table
    }
}

/// Links the base for effectful components.
pub(crate) fn link_effectful<T: WasiView + IoView + 'static>(
    linker: &mut Linker<T>,
) -> wasmtime::Result<()> {
    link_common(linker)?;
    wasmtime_wasi_io::add_to_linker_async(linker)?;
    clocks::monotonic_clock::add_to_linker::<T, WasiClocks>(linker, T::clocks)
}

/// Links the base for pure components.
pub(crate) fn link_pure<T: WasiView + IoView + 'static>(
    linker: &mut Linker<T>,
) -> wasmtime::Result<()> {
    link_common(linker)?;
    error::add_to_linker::<T, HasTable>(linker, T::table)?;
    sync_poll::add_to_linker::<T, HasReady>(linker, |data| Ready(data.table()))?;
    sync_streams::add_to_linker::<T, HasReady>(linker, |data| Ready(data.table()))?;
    clocks::monotonic_clock::add_to_linker::<T, HasUnwaiting>(linker, |data| {
        Unwaiting(data.clocks())
    })
}

fn link_common<T: WasiView + 'static>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    clocks::wall_clock::add_to_linker::<T, WasiClocks>(linker, T::clocks)?;
    random::random::add_to_linker::<T, WasiRandom>(linker, |data| data.ctx().ctx.random())?;
    random::insecure::add_to_linker::<T, WasiRandom>(linker, |data| data.ctx().ctx.random())?;
    random::insecure_seed::add_to_linker::<T, WasiRandom>(linker, |data| data.ctx().ctx.random())?;
    cli::environment::add_to_linker::<T, WasiCli>(linker, T::cli)?;
    cli::exit::add_to_linker::<T, WasiCli>(linker, T::cli)?;
    cli::stdin::add_to_linker::<T, WasiCli>(linker, T::cli)?;
    cli::stdout::add_to_linker::<T, WasiCli>(linker, T::cli)?;
    cli::stderr::add_to_linker::<T, WasiCli>(linker, T::cli)?;
    cli::terminal_input::add_to_linker::<T, WasiCli>(linker, T::cli)?;
    cli::terminal_output::add_to_linker::<T, WasiCli>(linker, T::cli)?;
    cli::terminal_stdin::add_to_linker::<T, WasiCli>(linker, T::cli)?;
    cli::terminal_stdout::add_to_linker::<T, WasiCli>(linker, T::cli)?;
    cli::terminal_stderr::add_to_linker::<T, WasiCli>(linker, T::cli)
}

struct HasTable;

impl HasData for HasTable {
    type Data<'a> = &'a mut ResourceTable;
}

/// wasi:io for stores that must not wait: each operation is tried once.
struct Ready<'a>(&'a mut ResourceTable);

struct HasReady;

impl HasData for HasReady {
    type Data<'a> = Ready<'a>;
}

/// A guest did what it may not do; it ends as a trap.
#[derive(Debug, thiserror::Error)]
#[error("a pure component waited; only tool and retrieval components may")]
pub(crate) struct Waited;

/// The value of a future that is ready now.
fn at_once<T>(future: impl Future<Output = T>) -> wasmtime::Result<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Ok(value),
        Poll::Pending => Err(Waited.into()),
    }
}

fn stream_at_once<T>(future: impl Future<Output = StreamResult<T>>) -> StreamResult<T> {
    at_once(future).unwrap_or_else(|waited| Err(StreamError::Trap(waited)))
}

impl sync_poll::Host for Ready<'_> {
    fn poll(&mut self, pollables: Vec<Resource<DynPollable>>) -> wasmtime::Result<Vec<u32>> {
        at_once(poll::Host::poll(self.0, pollables))?
    }
}

impl sync_poll::HostPollable for Ready<'_> {
    fn ready(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<bool> {
        at_once(poll::HostPollable::ready(self.0, pollable))?
    }

    fn block(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        at_once(poll::HostPollable::block(self.0, pollable))?
    }

    fn drop(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        poll::HostPollable::drop(self.0, pollable)
    }
}

impl sync_streams::Host for Ready<'_> {
    fn convert_stream_error(
        &mut self,
        error: StreamError,
    ) -> wasmtime::Result<sync_streams::StreamError> {
        sync_streams::Host::convert_stream_error(self.0, error)
    }
}

impl sync_streams::HostOutputStream for Ready<'_> {
    fn drop(&mut self, stream: Resource<DynOutputStream>) -> wasmtime::Result<()> {
        at_once(streams::HostOutputStream::drop(self.0, stream))?
    }

    fn check_write(&mut self, stream: Resource<DynOutputStream>) -> StreamResult<u64> {
        streams::HostOutputStream::check_write(self.0, stream)
    }

    fn write(&mut self, stream: Resource<DynOutputStream>, bytes: Vec<u8>) -> StreamResult<()> {
        streams::HostOutputStream::write(self.0, stream, bytes)
    }

    fn blocking_write_and_flush(
        &mut self,
        stream: Resource<DynOutputStream>,
        bytes: Vec<u8>,
    ) -> StreamResult<()> {
        stream_at_once(streams::HostOutputStream::blocking_write_and_flush(
            self.0, stream, bytes,
        ))
    }

    fn subscribe(
        &mut self,
        stream: Resource<DynOutputStream>,
    ) -> wasmtime::Result<Resource<DynPollable>> {
        streams::HostOutputStream::subscribe(self.0, stream)
    }

    fn write_zeroes(&mut self, stream: Resource<DynOutputStream>, len: u64) -> StreamResult<()> {
        streams::HostOutputStream::write_zeroes(self.0, stream, len)
    }

    fn blocking_write_zeroes_and_flush(
        &mut self,
        stream: Resource<DynOutputStream>,
        len: u64,
    ) -> StreamResult<()> {
        stream_at_once(streams::HostOutputStream::blocking_write_zeroes_and_flush(
            self.0, stream, len,
        ))
    }

    fn flush(&mut self, stream: Resource<DynOutputStream>) -> StreamResult<()> {
        streams::HostOutputStream::flush(self.0, stream)
    }

    fn blocking_flush(&mut self, stream: Resource<DynOutputStream>) -> StreamResult<()> {
        stream_at_once(streams::HostOutputStream::blocking_flush(self.0, stream))
    }

    fn splice(
        &mut self,
        to: Resource<DynOutputStream>,
        from: Resource<DynInputStream>,
        len: u64,
    ) -> StreamResult<u64> {
        streams::HostOutputStream::splice(self.0, to, from, len)
    }

    fn blocking_splice(
        &mut self,
        to: Resource<DynOutputStream>,
        from: Resource<DynInputStream>,
        len: u64,
    ) -> StreamResult<u64> {
        stream_at_once(streams::HostOutputStream::blocking_splice(
            self.0, to, from, len,
        ))
    }
}

impl sync_streams::HostInputStream for Ready<'_> {
    fn drop(&mut self, stream: Resource<DynInputStream>) -> wasmtime::Result<()> {
        at_once(streams::HostInputStream::drop(self.0, stream))?
    }

    fn read(&mut self, stream: Resource<DynInputStream>, len: u64) -> StreamResult<Vec<u8>> {
        streams::HostInputStream::read(self.0, stream, len)
    }

    fn blocking_read(
        &mut self,
        stream: Resource<DynInputStream>,
        len: u64,
    ) -> StreamResult<Vec<u8>> {
        stream_at_once(streams::HostInputStream::blocking_read(self.0, stream, len))
    }

    fn skip(&mut self, stream: Resource<DynInputStream>, len: u64) -> StreamResult<u64> {
        streams::HostInputStream::skip(self.0, stream, len)
    }

    fn blocking_skip(&mut self, stream: Resource<DynInputStream>, len: u64) -> StreamResult<u64> {
        stream_at_once(streams::HostInputStream::blocking_skip(self.0, stream, len))
    }

    fn subscribe(
        &mut self,
        stream: Resource<DynInputStream>,
    ) -> wasmtime::Result<Resource<DynPollable>> {
        streams::HostInputStream::subscribe(self.0, stream)
    }
}

/// A monotonic clock one can read but not wait for.
struct Unwaiting<'a>(WasiClocksCtxView<'a>);

struct HasUnwaiting;

impl HasData for HasUnwaiting {
    type Data<'a> = Unwaiting<'a>;
}

impl clocks::monotonic_clock::Host for Unwaiting<'_> {
    fn now(&mut self) -> wasmtime::Result<u64> {
        clocks::monotonic_clock::Host::now(&mut self.0)
    }

    fn resolution(&mut self) -> wasmtime::Result<u64> {
        clocks::monotonic_clock::Host::resolution(&mut self.0)
    }

    fn subscribe_instant(&mut self, _: u64) -> wasmtime::Result<Resource<DynPollable>> {
        Err(Waited.into())
    }

    fn subscribe_duration(&mut self, _: u64) -> wasmtime::Result<Resource<DynPollable>> {
        Err(Waited.into())
    }
}

/// A clock that stands still, as time since the Unix epoch.
struct Stopped(Duration);

impl HostWallClock for Stopped {
    fn resolution(&self) -> Duration {
        Duration::from_nanos(1)
    }

    fn now(&self) -> Duration {
        self.0
    }
}

impl HostMonotonicClock for Stopped {
    fn resolution(&self) -> u64 {
        1
    }

    fn now(&self) -> u64 {
        u64::try_from(self.0.as_nanos()).unwrap_or(u64::MAX)
    }
}

/// Bytes that follow from a seed: SHA-256 over seed, purpose and a counter.
struct Seeded {
    seed: [u8; 32],
    purpose: u8,
    counter: u64,
    block: [u8; 32],
    used: usize,
}

impl Seeded {
    fn new(seed: [u8; 32], purpose: u8) -> Self {
        Self {
            seed,
            purpose,
            counter: 0,
            block: [0; 32],
            used: 32,
        }
    }

    fn fill(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            if self.used == self.block.len() {
                let hash = Sha256::new()
                    .chain_update(self.seed)
                    .chain_update([self.purpose])
                    .chain_update(self.counter.to_le_bytes());
                self.block = hash.finalize().into();
                self.counter += 1;
                self.used = 0;
            }
            *byte = self.block[self.used];
            self.used += 1;
        }
    }
}

impl rand_core::TryRng for Seeded {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.fill(&mut bytes);
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        self.fill(bytes);
        Ok(())
    }
}

/// What a guest writes to stdout or stderr, one log event per line, at level debug: it may hold a user's text.
#[derive(Clone)]
struct Log {
    stream: &'static str,
    meter: Arc<Meter>,
    line: Arc<Mutex<Vec<u8>>>,
}

impl Log {
    fn new(stream: &'static str, meter: Arc<Meter>) -> Self {
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

#[cfg(test)]
mod tests {
    use super::Seeded;

    #[test]
    fn seeded_bytes_follow_from_seed_and_purpose() {
        let draw = |seed, purpose| {
            let mut bytes = [0; 100];
            Seeded::new(seed, purpose).fill(&mut bytes);
            bytes
        };
        assert_eq!(draw([1; 32], 1), draw([1; 32], 1));
        assert_ne!(draw([1; 32], 1), draw([1; 32], 2));
        assert_ne!(draw([1; 32], 1), draw([2; 32], 1));
        let one_by_one: Vec<u8> = {
            let mut seeded = Seeded::new([1; 32], 1);
            std::iter::repeat_with(|| {
                let mut byte = [0];
                seeded.fill(&mut byte);
                byte[0]
            })
            .take(100)
            .collect()
        };
        assert_eq!(one_by_one, draw([1; 32], 1));
    }
}
