//! Deliveries with nothing around them.

use super::Deliver;

/// A WebSocket message is a message that was published.
#[derive(Debug)]
pub(crate) struct TextDelivery;

impl Deliver for TextDelivery {
    fn on_message(
        &mut self,
        message: &[u8],
        payload: &mut dyn FnMut(&[u8]),
        _reply: &mut Vec<u8>,
    ) -> anyhow::Result<()> {
        payload(message);
        Ok(())
    }
}
