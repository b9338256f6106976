//! In which order a connection looks at what may have happened to it. The same for every transport whose client talks back.
//!
//! Guarantees: updates go out before anything else is looked at, so that a lone one costs little; a client that is sent many
//! is read in between; time is looked at only when client and relay have nothing or the client talks without end, and the timer is set anew only when
//! it must fire earlier or has fired.

use std::ops::ControlFlow;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::time::{Instant, Sleep};
use tokio_util::sync::WaitForCancellationFutureOwned;

/// How often a client is heard before time is looked at, even if it has more to say: it must not talk its deadlines away.
const EVENTS_MAX: usize = 64;

/// Is ready when connections without a session have to end.
pub(super) type Halt = Pin<Box<WaitForCancellationFutureOwned>>;

/// What the task of a connection does by turns. Each turn goes as far as it can without waiting.
pub(super) trait Turns {
    /// What has to be waited for, or cannot be gone on after.
    type Wake;

    /// Sends what the relay has for the client, if the client can take it.
    fn poll_relay(&mut self, cx: &mut Context<'_>) -> Poll<ControlFlow<Self::Wake>>;

    /// Does what follows from what the client says or takes.
    fn poll_client(&mut self, cx: &mut Context<'_>) -> Poll<ControlFlow<Self::Wake>>;

    /// When time itself has something to say.
    fn deadline(&self) -> Instant;

    /// Does what is due.
    fn on_time(&mut self) -> ControlFlow<Self::Wake>;

    /// What a connection without a session ends with when the server stops.
    fn halted(&self) -> Self::Wake;
}

/// Takes turns until there is something to wait for.
pub(super) fn poll_turns<C: Turns>(
    connection: &mut C,
    mut timer: Pin<&mut Sleep>,
    halt: Option<&mut Halt>,
    cx: &mut Context<'_>,
) -> Poll<C::Wake> {
    if let Some(halt) = halt
        && halt.as_mut().poll(cx).is_ready()
    {
        return Poll::Ready(connection.halted());
    }
    // Whether the client had nothing to say since it was last sent something.
    let mut is_heard = false;
    let mut events = 0;
    loop {
        let turn = match connection.poll_relay(cx) {
            Poll::Ready(turn) => turn,
            Poll::Pending if is_heard || events >= EVENTS_MAX => {
                let deadline = connection.deadline();
                if deadline < timer.deadline() {
                    timer.as_mut().reset(deadline);
                }
                if timer.as_mut().poll(cx).is_pending() {
                    if !is_heard {
                        cx.waker().wake_by_ref();
                    }
                    return Poll::Pending;
                }
                let turn = connection.on_time();
                timer.as_mut().reset(connection.deadline());
                turn
            }
            Poll::Pending => ControlFlow::Continue(()),
        };
        if let ControlFlow::Break(wake) = turn {
            return Poll::Ready(wake);
        }
        let heard = connection.poll_client(cx);
        is_heard = heard.is_pending();
        events += 1;
        if let Poll::Ready(ControlFlow::Break(wake)) = heard {
            return Poll::Ready(wake);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::pin;

    use super::*;

    /// A client that always has something to say.
    struct Talker {
        deadline: Instant,
        said: usize,
    }

    impl Turns for Talker {
        type Wake = &'static str;

        fn poll_relay(&mut self, _: &mut Context<'_>) -> Poll<ControlFlow<Self::Wake>> {
            Poll::Pending
        }

        fn poll_client(&mut self, _: &mut Context<'_>) -> Poll<ControlFlow<Self::Wake>> {
            self.said += 1;
            assert!(self.said <= EVENTS_MAX, "nothing else gets a turn");
            Poll::Ready(ControlFlow::Continue(()))
        }

        fn deadline(&self) -> Instant {
            self.deadline
        }

        fn on_time(&mut self) -> ControlFlow<Self::Wake> {
            ControlFlow::Break("time is up")
        }

        fn halted(&self) -> Self::Wake {
            "halted"
        }
    }

    #[tokio::test]
    async fn a_client_does_not_talk_its_deadline_away() {
        let deadline = Instant::now();
        let mut talker = Talker { deadline, said: 0 };
        let mut timer = pin!(tokio::time::sleep_until(deadline));
        let wake = poll_fn(|cx| {
            talker.said = 0;
            poll_turns(&mut talker, timer.as_mut(), None, cx)
        })
        .await;
        assert_eq!(wake, "time is up");
    }
}
