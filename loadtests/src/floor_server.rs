//! The floor under any server: how much goes through one core when hardly anything is done but reading and writing.
//!
//! It reads the raw feed, looks the device up by its number, puts the bytes of the body behind the header of a WebSocket
//! frame, once for all recipients, and writes that to each of them, on one thread around epoll. `floor-1` writes each
//! message to each recipient by itself; `floor-16` and `floor-256` gather so many messages for each recipient as long as
//! more input is at hand, and write what they have when there is none.
//!
//! It does *not* parse JSON, look at keys, keep last values, know sessions, grants or authentication, follow what a slow
//! recipient has missed (one that takes nothing is cut off), answer pings, or speak TLS. A server that does these things
//! cannot be faster with the same number of writes; how far it stands above the floor is what they cost. One that gathers
//! more for a write than a floor does can pass that floor.

use std::collections::HashMap;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::feed::FeedMessage;
use crate::message::{self, DEVICES_MAX};
use crate::report;
use crate::server_process::end_with_parent;

const READ_BYTES: usize = 64 * 1024;

/// Reads of the feed before everything that was gathered is written, even when there is more.
const READS_AT_ONCE: usize = 16;

/// What may wait for a recipient; one that lets more pile up is cut off.
const WAITING_BYTES_MAX: usize = 64 * 1024 * 1024;

const REQUEST_BYTES_MAX: usize = 16 * 1024;
const REQUEST_LIMIT: Duration = Duration::from_secs(5);

const LISTENER: u64 = u64::MAX;
const FEED: u64 = u64::MAX - 1;

/// Serves until the process is killed. Prints where it listens; fetches its feed from `feed`.
pub(crate) fn run(gathered_max: usize, feed: SocketAddr) -> anyhow::Result<()> {
    end_with_parent()?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let feed = TcpStream::connect(feed).context("cannot fetch the feed")?;
    feed.set_nonblocking(true)?;
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    epoll::add(
        &epoll,
        &listener,
        EventData::new_u64(LISTENER),
        EventFlags::IN,
    )?;
    epoll::add(&epoll, &feed, EventData::new_u64(FEED), EventFlags::IN)?;
    report::print(&format!("{}\n", listener.local_addr()?));
    let mut server = Server {
        epoll,
        recipients: Vec::new(),
        of_device: vec![Vec::new(); DEVICES_MAX],
        gathered_max,
        gathering: Vec::new(),
        frame: Vec::new(),
    };
    let mut input = Input {
        feed,
        buffer: vec![0; READ_BYTES * 2],
        held: 0,
    };
    let mut events = Vec::<Event>::with_capacity(1024);
    loop {
        events.clear();
        match epoll::wait(
            &server.epoll,
            rustix::buffer::spare_capacity(&mut events),
            None,
        ) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in &events {
            match event.data.u64() {
                LISTENER => server.accept(&listener)?,
                FEED => server.relay(&mut input)?,
                place => server.look_after(usize::try_from(place)?, event.flags)?,
            }
        }
    }
}

struct Input {
    feed: TcpStream,
    buffer: Vec<u8>,
    /// Bytes at the beginning of the buffer that are no whole message yet.
    held: usize,
}

struct Server {
    epoll: OwnedFd,
    recipients: Vec<Option<Recipient>>,
    /// The places of the recipients of each device.
    of_device: Vec<Vec<usize>>,
    gathered_max: usize,
    /// The places of those for whom something is gathered.
    gathering: Vec<usize>,
    frame: Vec<u8>,
}

struct Recipient {
    stream: TcpStream,
    /// What is gathered, or what the socket did not take.
    out: Vec<u8>,
    gathered: usize,
    /// Whether the socket has to take something before more is written.
    is_blocked: bool,
}

impl Server {
    /// Takes in a new recipient, who says in its request what it wants.
    fn accept(&mut self, listener: &TcpListener) -> anyhow::Result<()> {
        let (mut stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(REQUEST_LIMIT))?;
        let request = read_request(&mut stream)?;
        let place = self.recipients.len();
        for device in request.devices {
            self.of_device
                .get_mut(device)
                .context("there is no such device")?
                .push(place);
        }
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {}\r\n\r\n",
            derive_accept_key(request.key.as_bytes())
        );
        stream.write_all(answer.as_bytes())?;
        stream.set_nonblocking(true)?;
        let data = EventData::new_u64(place as u64);
        epoll::add(&self.epoll, &stream, data, EventFlags::IN)?;
        self.recipients.push(Some(Recipient {
            stream,
            out: Vec::new(),
            gathered: 0,
            is_blocked: false,
        }));
        Ok(())
    }

    /// Takes in what the feed has, and passes it on.
    fn relay(&mut self, input: &mut Input) -> anyhow::Result<()> {
        for _ in 0..READS_AT_ONCE {
            match input.feed.read(&mut input.buffer[input.held..]) {
                Ok(0) => {
                    epoll::delete(&self.epoll, &input.feed)?;
                    break;
                }
                Ok(read) => input.held += read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error).context("the feed broke"),
            }
            let mut bytes = &input.buffer[..input.held];
            while let Some(message) = FeedMessage::take(&mut bytes)
                .ok()
                .context("the feed is malformed")?
            {
                self.pass_on(message)?;
            }
            let rest = bytes.len();
            input.buffer.copy_within(input.held - rest..input.held, 0);
            input.held = rest;
            ensure!(rest < READ_BYTES, "a message is too long");
        }
        for place in std::mem::take(&mut self.gathering) {
            self.write(place)?;
        }
        Ok(())
    }

    fn pass_on(&mut self, message: FeedMessage<'_>) -> anyhow::Result<()> {
        let device =
            message::device_of_id(message.device_id).context("a device id is malformed")?;
        if self.of_device[device].is_empty() {
            return Ok(());
        }
        self.frame.clear();
        push_frame(message.body, &mut self.frame);
        // Moved out and back, because writing needs all of the server.
        let places = std::mem::take(&mut self.of_device[device]);
        for &place in &places {
            if let Some(recipient) = &mut self.recipients[place] {
                recipient.out.extend_from_slice(&self.frame);
                recipient.gathered += 1;
                if recipient.gathered >= self.gathered_max {
                    self.write(place)?;
                } else if recipient.gathered == 1 {
                    self.gathering.push(place);
                }
            }
        }
        self.of_device[device] = places;
        Ok(())
    }

    /// Writes what waits for a recipient, as far as the socket takes it.
    fn write(&mut self, place: usize) -> anyhow::Result<()> {
        let Some(recipient) = &mut self.recipients[place] else {
            return Ok(());
        };
        recipient.gathered = 0;
        if recipient.out.len() > WAITING_BYTES_MAX {
            self.recipients[place] = None;
            return Ok(());
        }
        if recipient.is_blocked || recipient.out.is_empty() {
            return Ok(());
        }
        match recipient.stream.write(&recipient.out) {
            Ok(written) if written == recipient.out.len() => recipient.out.clear(),
            Ok(written) => {
                recipient.out.drain(..written);
                self.wait_for_room(place)?;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.wait_for_room(place)?,
            Err(_) => self.recipients[place] = None,
        }
        Ok(())
    }

    fn wait_for_room(&mut self, place: usize) -> anyhow::Result<()> {
        self.watch(place, true)
    }

    fn watch(&mut self, place: usize, is_blocked: bool) -> anyhow::Result<()> {
        if let Some(recipient) = &mut self.recipients[place] {
            recipient.is_blocked = is_blocked;
            let flags = if is_blocked {
                EventFlags::IN | EventFlags::OUT
            } else {
                EventFlags::IN
            };
            let data = EventData::new_u64(place as u64);
            epoll::modify(&self.epoll, &recipient.stream, data, flags)?;
        }
        Ok(())
    }

    /// Goes on writing to a recipient that has room again, and forgets one that has gone.
    fn look_after(&mut self, place: usize, flags: EventFlags) -> anyhow::Result<()> {
        if flags.contains(EventFlags::OUT) {
            self.watch(place, false)?;
            self.write(place)?;
        }
        if flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR)
            && let Some(recipient) = &mut self.recipients[place]
        {
            // What recipients say is passed over.
            match recipient.stream.read(&mut [0; 1024]) {
                Ok(0) => self.recipients[place] = None,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => self.recipients[place] = None,
            }
        }
        Ok(())
    }
}

/// What a recipient asks for in its opening handshake.
struct Request {
    key: String,
    devices: Vec<usize>,
}

fn read_request(stream: &mut TcpStream) -> anyhow::Result<Request> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 1024];
    while !bytes.ends_with(b"\r\n\r\n") {
        let read = stream.read(&mut chunk)?;
        ensure!(read > 0, "a recipient hung up");
        bytes.extend_from_slice(&chunk[..read]);
        ensure!(bytes.len() <= REQUEST_BYTES_MAX, "a request is too long");
    }
    parse_request(&bytes).context("a request is no opening handshake")
}

fn parse_request(bytes: &[u8]) -> Option<Request> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (first, rest) = text.split_once("\r\n")?;
    let headers: HashMap<_, _> = rest
        .lines()
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value))
        .collect();
    let path = first.strip_prefix("GET /?devices=")?;
    let devices = path.split(' ').next()?.split(',');
    Some(Request {
        key: (*headers.get("sec-websocket-key")?).to_owned(),
        devices: devices
            .map(|device| device.parse().ok())
            .collect::<Option<_>>()?,
    })
}

/// Appends a text frame (RFC 6455 §5.2), which servers do not mask.
fn push_frame(body: &[u8], out: &mut Vec<u8>) {
    out.push(0x81);
    match body.len() {
        length @ 0..126 => out.push(u8::try_from(length).expect("below 126")),
        length @ 126..0x1_0000 => {
            out.push(126);
            out.extend_from_slice(&u16::try_from(length).expect("two bytes").to_be_bytes());
        }
        length => {
            out.push(127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(body);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::websocket_client::{Frame, opcode};

    #[test]
    fn frames_are_read_back() {
        for length in [0, 125, 126, 65_535, 65_536] {
            let (body, mut frame) = (vec![b'x'; length], Vec::new());
            push_frame(&body, &mut frame);
            let expected = Frame {
                opcode: opcode::TEXT,
                is_last: true,
                payload: &body,
            };
            assert_eq!(Frame::take(&mut frame.as_slice()).unwrap(), Some(expected));
        }
    }

    #[test]
    fn a_request_says_which_devices_are_wanted() {
        let request = b"GET /?devices=1,20 HTTP/1.1\r\nHost: a\r\nSec-WebSocket-Key: abc\r\n\r\n";
        let request = parse_request(request).unwrap();
        assert_eq!(
            (request.key.as_str(), request.devices),
            ("abc", vec![1, 20])
        );
        assert!(parse_request(b"GET / HTTP/1.1\r\n\r\n").is_none());
    }
}
