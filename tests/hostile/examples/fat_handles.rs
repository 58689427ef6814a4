//! Fills what stands behind its handles: headers without end, or bodies of requests it never sends. Told a number, it makes so many bodies
//! and answers how many bytes the host took; told anything but `headers`, it does not stop.

#[cfg(target_family = "wasm")]
fn fill(argument: String) -> String {
    use wasip2::http::types::{Fields, OutgoingRequest};
    if argument == "headers" {
        let fields = Fields::new();
        while fields.append("x", &[b'x'; 1_024]).is_ok() {}
    }
    let mut kept = Vec::new();
    let mut taken = 0;
    while kept.len() < argument.parse().unwrap_or(usize::MAX) {
        let request = OutgoingRequest::new(Fields::new());
        let Ok(body) = request.body() else {
            return "no body".into();
        };
        let Ok(stream) = body.write() else {
            return "no stream".into();
        };
        while let Ok(room @ 1..) = stream.check_write() {
            let piece = vec![b'x'; room as usize];
            if stream.write(&piece).is_err() {
                break;
            }
            taken += piece.len();
        }
        kept.push((request, stream, body));
    }
    taken.to_string()
}

#[cfg(not(target_family = "wasm"))]
fn fill(argument: String) -> String {
    argument
}

ambit_hostile::guest!(fill);
