//! `wasi:http` of a tool: requests leave through egress or not at all.

use super::Host;
use ambit_egress::{Egress, EgressError, Handles, Phase, Scope, Shares, Timeouts};
use ambit_policy::Ambit;
use ambit_runtime::{Admitted, Call, Meter};
use http::Request;
use http_body_util::BodyExt as _;
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};
use wasmtime::component::Linker;
use wasmtime_wasi_http::{
    Error, RequestOptions, Result, WasiBody, WasiHttp, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks,
    p2::bindings::{LinkOptions, http as wasi},
};

/// The way out of every tool: egress and each tenant's share of connections. Cheap to clone; one for the whole process.
#[derive(Clone)]
pub struct Outbound {
    egress: Egress,
    connections: Shares,
}

impl Outbound {
    /// `per_tenant`: exchanges a tenant may have under way, over all its calls.
    #[must_use]
    pub fn new(egress: Egress, per_tenant: usize) -> Self {
        Self {
            egress,
            connections: Shares::new(per_tenant),
        }
    }
}

/// Bytes of a body that a tool may hand over before somebody takes them, twice: one piece is on its way, one waits. They are the host's
/// memory, with or without a request that was granted.
const BODY_PIECE: usize = 16 << 10;

/// Bytes of one set of headers that a tool makes, as they lie in the host's memory.
const FIELDS: usize = 16 << 10;

/// What one call of a tool holds of HTTP.
pub(super) struct Http {
    ctx: WasiHttpCtx,
    hooks: Hooks,
}

impl Default for Http {
    fn default() -> Self {
        let mut ctx = WasiHttpCtx::new();
        ctx.set_field_size_limit(FIELDS);
        Self {
            ctx,
            hooks: Hooks::default(),
        }
    }
}

/// Closed until the call has begun: a component's start reaches nothing.
#[derive(Default)]
struct Hooks(Option<(Egress, Scope)>);

/// Whether the call's egress limit is spent.
#[derive(Clone, Default)]
pub(super) struct EgressSpent(Arc<AtomicBool>);

impl EgressSpent {
    pub(super) fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Counts for the runtime's meter what egress moves.
struct Charge {
    meter: Arc<Meter>,
    spent: EgressSpent,
}

impl ambit_egress::Meter for Charge {
    fn charge(&self, bytes: u64) -> Result<(), ambit_egress::Spent> {
        self.meter.charge_egress(bytes).map_err(|_| {
            self.spent.0.store(true, Ordering::Relaxed);
            ambit_egress::Spent
        })
    }
}

impl Http {
    /// Opens the way out for one call, with these secrets to swap in.
    pub(super) fn open(
        &mut self,
        outbound: &Outbound,
        ambit: Arc<Ambit>,
        handles: Arc<Handles>,
        meter: &Arc<Meter>,
    ) -> EgressSpent {
        let spent = EgressSpent::default();
        let charge = Arc::new(Charge {
            meter: meter.clone(),
            spent: spent.clone(),
        });
        let connections = outbound.connections.of(meter.tenant().id());
        let scope = Scope::new(ambit, meter.limits(), meter.deadline(), connections, charge)
            .with_secrets(handles);
        self.hooks.0 = Some((outbound.egress.clone(), scope));
        spent
    }
}

/// Adds `wasi:http` where the component asks for it; whether a request may leave is the ambit's answer to that request.
pub(super) fn link(linker: &mut Linker<Call<Host>>, admitted: &Admitted) -> wasmtime::Result<()> {
    if admitted.imports("wasi:http/types") || admitted.imports("wasi:http/outgoing-handler") {
        wasi::outgoing_handler::add_to_linker::<_, WasiHttp>(linker, view)?;
        wasi::types::add_to_linker::<_, WasiHttp>(linker, &LinkOptions::default().into(), view)?;
    }
    Ok(())
}

fn view(call: &mut Call<Host>) -> WasiHttpCtxView<'_> {
    WasiHttpCtxView {
        hooks: &mut call.host.http.hooks,
        table: &mut call.table,
        ctx: &mut call.host.http.ctx,
    }
}

type Sent = Result<(
    http::Response<WasiBody>,
    Box<dyn Future<Output = Result<()>> + Send>,
)>;

impl WasiHttpHooks for Hooks {
    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        BODY_PIECE
    }

    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _sent: Box<dyn Future<Output = Result<()>> + Send>,
    ) -> Box<dyn Future<Output = Sent> + Send> {
        let open = self.0.clone();
        Box::new(async move {
            let (egress, scope) = open.ok_or(Error::HttpRequestDenied)?;
            let options = options.unwrap_or_default();
            let timeouts = Timeouts::asked(options.connect_timeout, options.first_byte_timeout);
            let answer = egress
                .send(&scope, request, timeouts)
                .await
                .map_err(|error| told(&error))?;
            let answer = answer.map(|body| body.map_err(|error| told(&error)).boxed_unsync());
            Ok((
                answer,
                Box::new(async { Ok(()) }) as Box<dyn Future<Output = _> + Send>,
            ))
        })
    }
}

/// The standard's word for a failure. None of them says what the host knows of its network.
fn told(error: &EgressError) -> Error {
    tracing::debug!(code = error.code(), %error, "an outbound request of a tool failed");
    match error {
        EgressError::Denied(_) => Error::HttpRequestDenied,
        EgressError::Invalid(_) => Error::HttpRequestUriInvalid,
        EgressError::Unreachable { .. } => Error::DestinationNotFound,
        EgressError::Connect => Error::ConnectionRefused,
        EgressError::Tls => Error::TlsProtocolError,
        EgressError::Timeout(Phase::Connect) => Error::ConnectionTimeout,
        EgressError::Timeout(_) => Error::ConnectionReadTimeout,
        EgressError::Spent => Error::HttpResponseBodySize(None),
        EgressError::Busy => Error::ConnectionLimitReached,
        _ => Error::HttpProtocolError,
    }
}
