//! Responses to publishing over HTTP/1.1 (RFC 9112), as far as a publisher must know them: where each ends and whether
//! the message was taken.

use anyhow::{Context as _, ensure};

const HEAD_BYTES_MAX: usize = 16 * 1024;

/// The beginning of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Response<'a> {
    pub(crate) status: u16,
    pub(crate) body: &'a [u8],
    /// How long it is altogether.
    pub(crate) bytes: usize,
}

/// The first response; `None` when it is not all there. Its body must have a length that is told beforehand.
pub(crate) fn take(bytes: &[u8]) -> anyhow::Result<Option<Response<'_>>> {
    const END: &[u8] = b"\r\n\r\n";
    let Some(end) = bytes.windows(END.len()).position(|at| at == END) else {
        ensure!(
            bytes.len() <= HEAD_BYTES_MAX,
            "a response whose headers have no end"
        );
        return Ok(None);
    };
    let head = str::from_utf8(&bytes[..end]).context("a response that is no text")?;
    let mut lines = head.split("\r\n");
    let status = lines
        .next()
        .and_then(|line| line.strip_prefix("HTTP/1.1 "))
        .and_then(|line| line.get(..3)?.parse().ok())
        .context("a response without status")?;
    let length: usize = lines
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, length)| length.trim().parse().ok())
        .with_context(|| format!("a response without length: {head}"))?;
    let start = end + END.len();
    let Some(body) = bytes[start..].get(..length) else {
        return Ok(None);
    };
    Ok(Some(Response {
        status,
        body,
        bytes: start + length,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_is_taken_when_it_is_whole() {
        let bytes = b"HTTP/1.1 200 OK\r\nX: y\r\nCONTENT-LENGTH: 2\r\n\r\nokHTTP";
        let whole = bytes.len() - 4;
        for end in 0..whole {
            assert_eq!(take(&bytes[..end]).unwrap(), None);
        }
        let response = Response {
            status: 200,
            body: b"ok",
            bytes: whole,
        };
        assert_eq!(take(bytes).unwrap(), Some(response));
    }

    #[test]
    fn what_is_no_response_is_an_error() {
        assert!(take(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").is_err());
        assert!(take(b"SSH-2.0\r\n\r\n").is_err());
    }
}
