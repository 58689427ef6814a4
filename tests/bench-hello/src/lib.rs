//! Answers every request with `hello world`. The least a WebAssembly HTTP server can do, measured beside a whole governed request.

#[cfg(target_family = "wasm")]
mod guest {
    #![allow(
        unsafe_code,
        reason = "the export macro writes the C ABI of the component model"
    )]

    use wasip2::exports::http::incoming_handler::Guest;
    use wasip2::http::types::{
        Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam,
    };

    struct Hello;

    impl Guest for Hello {
        fn handle(_request: IncomingRequest, out: ResponseOutparam) {
            let response = OutgoingResponse::new(Fields::new());
            let body = response.body();
            ResponseOutparam::set(out, Ok(response));
            let Ok(body) = body else { return };
            if let Ok(stream) = body.write() {
                let _ = stream.blocking_write_and_flush(b"hello world\n");
            }
            let _ = OutgoingBody::finish(body, None);
        }
    }

    wasip2::http::proxy::export!(Hello);
}
