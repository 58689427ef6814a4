//! Wants the whole world: files, sockets and requests.

#[cfg(target_family = "wasm")]
fn take(argument: String) -> String {
    use wasip2::http::types::{Fields, OutgoingRequest};
    let file = std::fs::read_to_string("/etc/passwd").is_ok();
    let socket = std::net::TcpStream::connect(&argument).is_ok();
    let bound = std::net::UdpSocket::bind("0.0.0.0:0").is_ok();
    let request = OutgoingRequest::new(Fields::new());
    let sent = wasip2::http::outgoing_handler::handle(request, None).is_ok();
    format!("{file} {socket} {bound} {sent}")
}

#[cfg(not(target_family = "wasm"))]
fn take(argument: String) -> String {
    argument
}

ambit_hostile::guest!(take);
