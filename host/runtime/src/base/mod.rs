//! The harmless base: what every guest of a standard toolchain imports, whatever it does.
//!
//! Linked for every component: wasi:cli (no environment, no arguments, an empty stdin; stdout and stderr go into the log budget; exit
//! is a trap), wasi:io, wasi:clocks and wasi:random. Never linked: wasi:filesystem and wasi:sockets. A guest built by Rust
//! 1.95 for `wasm32-wasip2` imports neither, unless it asks for a file or a socket; then admission says so.
//!
//! The implementations are wasmtime-wasi's, but for one rule of our own: *a pure component never waits*. It runs on one of the few
//! threads of the executor, where waiting would hold up other tenants and where no epoch could end it. So in pure stores a clock
//! gives no pollable, and a stream or poll that is not ready at once is a trap (`base/ready.rs`). wasmtime-wasi's synchronous variant
//! would block the thread, and start a tokio runtime of its own for it.
//!
//! The context behind it is made at the first use: most calls never ask for the time, and making one costs more than an empty call.

mod log;
mod ready;
mod turn;

pub(crate) use ready::Waited;

use crate::{
    call::{Call, Clock},
    meter::Meter,
};
use log::Log;
use ready::{HasReady, HasUnwaiting, Ready, Unwaiting};
use std::{fmt, sync::Arc, time::SystemTime};
use turn::{Seeded, Stopped};
use wasmtime::component::{HasData, Linker, ResourceTable};
use wasmtime_wasi::{
    WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView,
    cli::{WasiCli, WasiCliView as _},
    clocks::{WasiClocks, WasiClocksView as _},
    p2::bindings::{
        cli, clocks, random,
        sync::io::{poll, streams},
    },
    random::WasiRandom,
};
use wasmtime_wasi_io::{IoView, bindings::wasi::io::error};

/// Most bytes of randomness in one call of the guest.
const MAX_RANDOM: u64 = 64 << 10;

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
    poll::add_to_linker::<T, HasReady>(linker, |data| Ready(data.table()))?;
    streams::add_to_linker::<T, HasReady>(linker, |data| Ready(data.table()))?;
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
