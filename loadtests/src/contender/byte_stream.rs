//! Protocols that are a byte stream, whatever the pieces it arrives in.

use anyhow::ensure;

/// What may wait for its end: far more than any message of these runs.
const UNFINISHED_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Keeps what a piece ends with until the rest of it comes.
#[derive(Debug, Default)]
pub(crate) struct ByteStream {
    unfinished: Vec<u8>,
}

impl ByteStream {
    /// Hands `take` the stream's next bytes again and again. It tells how many of them made up one complete unit, or
    /// `None` when more must come first.
    pub(crate) fn feed(
        &mut self,
        piece: &[u8],
        mut take: impl FnMut(&[u8]) -> anyhow::Result<Option<usize>>,
    ) -> anyhow::Result<()> {
        if self.unfinished.is_empty() {
            let used = take_all(piece, &mut take)?;
            self.unfinished.extend_from_slice(&piece[used..]);
        } else {
            self.unfinished.extend_from_slice(piece);
            let used = take_all(&self.unfinished, &mut take)?;
            self.unfinished.drain(..used);
        }
        ensure!(
            self.unfinished.len() <= UNFINISHED_BYTES_MAX,
            "a message of more than {UNFINISHED_BYTES_MAX} bytes"
        );
        Ok(())
    }
}

fn take_all(
    bytes: &[u8],
    take: &mut impl FnMut(&[u8]) -> anyhow::Result<Option<usize>>,
) -> anyhow::Result<usize> {
    let mut used = 0;
    while used < bytes.len() {
        match take(&bytes[used..])? {
            Some(count) => used += count,
            None => break,
        }
    }
    Ok(used)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::Deliver;

    /// What comes out of `stream`, and what is answered, which must be the same for the stream as a whole, cut in two at
    /// any place, and byte by byte.
    pub(crate) fn deliver_in_pieces<D: Deliver>(
        stream: &[u8],
        new: impl Fn() -> D,
    ) -> (Vec<String>, Vec<u8>) {
        let deliver = |pieces: &mut dyn Iterator<Item = &[u8]>| {
            let mut deliver = new();
            let (mut payloads, mut reply) = (Vec::new(), Vec::new());
            for piece in pieces {
                let mut payload =
                    |body: &[u8]| payloads.push(String::from_utf8(body.to_vec()).unwrap());
                deliver.on_message(piece, &mut payload, &mut reply).unwrap();
            }
            (payloads, reply)
        };
        let whole = deliver(&mut [stream].into_iter());
        assert_eq!(deliver(&mut stream.chunks(1)), whole);
        for cut in 0..stream.len() {
            let (first, second) = stream.split_at(cut);
            assert_eq!(deliver(&mut [first, second].into_iter()), whole);
        }
        whole
    }
}
