//! What the kernel holds of the connections of this machine, from /proc/net/tcp.

use std::collections::HashMap;
use std::fs;

use anyhow::Context as _;

const PATH: &str = "/proc/net/tcp";

/// Bytes on their way to clients, by the ports of the clients: what the servers' ends have not got rid of yet, and what
/// the clients have not read. What has come but is not acknowledged yet is counted at both ends.
pub(crate) fn bytes_by_client_port() -> anyhow::Result<HashMap<u16, u64>> {
    let table = fs::read_to_string(PATH).with_context(|| format!("cannot read {PATH}"))?;
    parse(&table).with_context(|| format!("{PATH} is not as proc(5) says"))
}

fn parse(table: &str) -> Option<HashMap<u16, u64>> {
    let mut bytes = HashMap::new();
    for line in table.lines().skip(1) {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let (local, remote) = (port(fields.next()?)?, port(fields.next()?)?);
        let (unsent, unread) = fields.nth(1)?.split_once(':')?;
        // A client's end is the one whose peer is a server, which cannot be told here: each end counts for the port that
        // would be the client's.
        *bytes.entry(remote).or_default() += u64::from_str_radix(unsent, 16).ok()?;
        *bytes.entry(local).or_default() += u64::from_str_radix(unread, 16).ok()?;
    }
    Some(bytes)
}

/// The port of an address such as `0100007F:1F90`.
fn port(address: &str) -> Option<u16> {
    let (_, port) = address.split_once(':')?;
    u16::from_str_radix(port, 16).ok()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn both_ends_of_a_connection_count() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr\n   \
            0: 0100007F:1F90 0100007F:C350 01 00000010:00000000 00:00000000\n   \
            1: 0100007F:C350 0100007F:1F90 01 00000000:00000002 00:00000000\n";
        assert_eq!(parse(table).unwrap()[&50_000], 18);
    }

    #[test]
    fn what_a_client_does_not_read_is_found() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        server.write_all(&[0; 1000]).unwrap();
        let port = client.local_addr().unwrap().port();
        assert!(bytes_by_client_port().unwrap()[&port] >= 1000);
    }
}
