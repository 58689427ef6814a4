//! The two engines of a process.
//!
//! *Pure* components only look things up in memory, so they run to their end on a thread of the executor: no fiber, no
//! concurrency support, and so a fresh instance costs microseconds. *Effectful* ones wait for the world, so they run on fibers of an
//! async engine. One engine for both would make every guardrail pay for the fibers of the tools (46 µs against 9.5 µs per fresh call).
//!
//! Code compiled by one engine cannot run on the other: [`EngineClass`] is part of every cache key.

use crate::places::{Of, Places};
use ambit_policy::Kind;
use std::{fmt, num::NonZeroUsize, sync::Arc};
use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig,
    component::Component,
};

/// Stack a guest may use. Deeper recursion is [`Limit::Stack`](crate::Limit::Stack).
const GUEST_STACK: usize = 512 << 10;

/// Stack of an async call: the guest's, and as much again three times for the host functions it calls.
const FIBER_STACK: usize = 4 * GUEST_STACK;

/// Stack of an executor thread, by the same rule, plus what the job above the guest needs.
pub(crate) const THREAD_STACK: usize = 8 * GUEST_STACK;

/// Which engine a component runs on. Follows from its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EngineClass {
    /// Synchronous, on an executor thread: auth, routing, guardrail, agent.
    Pure,
    /// Asynchronous, on a fiber: tool, retrieval.
    Effectful,
}

impl EngineClass {
    /// The class of a kind of component.
    #[must_use]
    pub fn of(kind: Kind) -> Self {
        match kind {
            Kind::Auth | Kind::Routing | Kind::Guardrail | Kind::Agent => Self::Pure,
            Kind::Tool | Kind::Retrieval => Self::Effectful,
        }
    }

    /// Stable name, part of file names and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pure => "pure",
            Self::Effectful => "effectful",
        }
    }
}

impl fmt::Display for EngineClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where the memories of instances come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Allocation {
    /// From slots mapped once, where the address space allows it; else as `OnDemand`, with a warning.
    #[default]
    Pooling,
    /// Mapped for each instance. Slower by some 20 µs a call; needs no address space in advance.
    OnDemand,
}

/// One engine per class.
#[derive(Debug, Clone)]
pub(crate) struct Engines {
    pub(crate) pure: Engine,
    pub(crate) effectful: Engine,
    pure_places: Arc<Places>,
    effectful_places: Arc<Places>,
}

impl Engines {
    pub(crate) fn new(allocation: Allocation) -> wasmtime::Result<Self> {
        Ok(Self {
            pure: engine(EngineClass::Pure, allocation)?,
            effectful: engine(EngineClass::Effectful, allocation)?,
            pure_places: Places::new(Of::Pure, INSTANCES),
            effectful_places: Places::new(Of::Effectful, INSTANCES),
        })
    }

    /// The pool's slots, or as many where there is no pool.
    pub(crate) fn places(&self, class: EngineClass) -> &Arc<Places> {
        match class {
            EngineClass::Pure => &self.pure_places,
            EngineClass::Effectful => &self.effectful_places,
        }
    }

    pub(crate) fn of(&self, class: EngineClass) -> &Engine {
        match class {
            EngineClass::Pure => &self.pure,
            EngineClass::Effectful => &self.effectful,
        }
    }
}

fn engine(class: EngineClass, allocation: Allocation) -> wasmtime::Result<Engine> {
    if allocation == Allocation::Pooling {
        match Engine::new(
            config(class).allocation_strategy(InstanceAllocationStrategy::Pooling(pool(class))),
        ) {
            Ok(engine) => return Ok(engine),
            Err(error) => tracing::warn!(
                %class, error = format!("{error:#}"),
                "no address space for a pool of instances: each call maps its own memory and is slower for it"
            ),
        }
    }
    Engine::new(config(class).allocation_strategy(InstanceAllocationStrategy::OnDemand))
}

/// What code generation and stores of a class have in common, whatever the allocation: the compatibility hash follows from it.
fn config(class: EngineClass) -> Config {
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        .concurrency_support(false)
        .max_wasm_stack(GUEST_STACK)
        .async_stack_size(FIBER_STACK)
        // Fibers are reused between tenants: none may read what the last one left.
        .async_stack_zeroing(true)
        // No backtraces are shown to anybody, so their tables need not be made.
        .generate_address_map(false)
        .wasm_backtrace_max_frames(None)
        .wasm_memory64(false)
        .wasm_custom_page_sizes(false)
        // Replaying an agent's step on another machine must give the same move.
        .relaxed_simd_deterministic(true)
        .cranelift_nan_canonicalization(class == EngineClass::Pure);
    config
}

/// Slots of a pool, which tenants share ([`Places`]): each is a component instance with its stack, one memory and some tables. A component with
/// more of them takes more slots, so that none of them is used up before the others.
const INSTANCES: u32 = 1_000;
const TABLES_EACH: u32 = 4;
const TABLES: u32 = TABLES_EACH * INSTANCES;
/// Only counted by the pool, so there are as many as there can be.
const CORE_INSTANCES_EACH: u32 = 64;
const CORE_INSTANCES: u32 = CORE_INSTANCES_EACH * INSTANCES;

/// Memories a component may have.
const MEMORIES_EACH: u32 = 16;

/// How many slots an instance of the component takes.
pub(crate) fn slots_of(component: &Component) -> u32 {
    // What is not known before is linked by nobody: core modules are not among the host's imports.
    component
        .resources_required()
        .map_or(MEMORIES_EACH, |required| {
            let tables = required.num_tables.div_ceil(TABLES_EACH);
            required.num_memories.max(tables).max(1)
        })
}

/// How many slots the pool of a class has, by what they are for.
pub(crate) fn slots(class: EngineClass) -> [(&'static str, u32); 5] {
    let stacks = match class {
        EngineClass::Pure => 0,
        EngineClass::Effectful => INSTANCES,
    };
    [
        ("instances", INSTANCES),
        ("core_instances", CORE_INSTANCES),
        ("memories", INSTANCES),
        ("tables", TABLES),
        ("stacks", stacks),
    ]
}

/// Slots of the pool. They are address space, not memory: what was never touched costs nothing.
fn pool(class: EngineClass) -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::new();
    pool.linear_memory_keep_resident(256 << 10)
        .table_keep_resident(16 << 10)
        .max_memories_per_component(MEMORIES_EACH)
        .max_memories_per_module(MEMORIES_EACH)
        .max_tables_per_component(32)
        .max_tables_per_module(16)
        .max_core_instances_per_component(CORE_INSTANCES_EACH)
        .table_elements(65_536)
        .total_component_instances(INSTANCES)
        .total_core_instances(CORE_INSTANCES)
        .total_memories(INSTANCES)
        .total_tables(TABLES);
    match class {
        EngineClass::Pure => pool.max_unused_warm_slots(64).total_stacks(0),
        EngineClass::Effectful => pool
            .max_unused_warm_slots(32)
            .total_stacks(INSTANCES)
            .async_stack_keep_resident(32 << 10),
    };
    // Linux ≥ 6.7 tells which pages were touched, so that only those are put back.
    pool.pagemap_scan(Enabled::Auto);
    pool
}

/// Threads for pure calls, unless configured: one more than cores, so that a tenant at its cap (one per core) never holds the last.
pub(crate) fn default_threads() -> usize {
    std::thread::available_parallelism().map_or(2, NonZeroUsize::get) + 1
}
