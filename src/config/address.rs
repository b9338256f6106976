//! Addresses to listen on, as people write them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Listens on every IPv4 interface.
pub const EVERY_INTERFACE: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// Listens for this machine only.
pub const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Reads `host:port`, `:port` or a bare port; the latter two take `default_host`. Port 0 stands for any free port.
///
/// The host is an IP address (IPv6 in brackets) or `localhost`, which means 127.0.0.1: names are not looked up, so that
/// the result never depends on a name server.
pub fn parse_address(text: &str, default_host: IpAddr) -> Result<SocketAddr, AddressError> {
    let text = text.trim();
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
    let port = parse_port(port)?;
    let host = match host {
        "" => default_host,
        "localhost" => LOOPBACK,
        "*" => EVERY_INTERFACE,
        _ => return Err(AddressError),
    };
    Ok(SocketAddr::new(host, port))
}

/// A text is no address to listen on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected `host:port`, `:port` or a port from 0 to 65535, where the host is an IP address or `localhost`"
)]
pub struct AddressError;

fn parse_port(text: &str) -> Result<u16, AddressError> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        text.parse().map_err(|_| AddressError)
    } else {
        Err(AddressError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms_people_write_are_read() {
        let cases = [
            ("127.0.0.1:8080", "127.0.0.1:8080"),
            ("[::1]:8080", "[::1]:8080"),
            ("localhost:8080", "127.0.0.1:8080"),
            ("*:80", "0.0.0.0:80"),
            (":8080", "0.0.0.0:8080"),
            (" 8080 ", "0.0.0.0:8080"),
            ("0", "0.0.0.0:0"),
            ("127.0.0.1:0", "127.0.0.1:0"),
        ];
        for (text, expected) in cases {
            let address = parse_address(text, EVERY_INTERFACE).unwrap();
            assert_eq!(address.to_string(), expected, "{text}");
        }
        assert_eq!(
            parse_address("9000", LOOPBACK).unwrap().to_string(),
            "127.0.0.1:9000"
        );
    }

    #[test]
    fn everything_else_is_refused() {
        for text in [
            "",
            ":",
            "host:80",
            "127.0.0.1",
            "127.0.0.1:",
            "65536",
            "-1",
            "+80",
            "::1:80",
            "80:90",
        ] {
            assert_eq!(parse_address(text, LOOPBACK), Err(AddressError), "{text}");
        }
    }
}
