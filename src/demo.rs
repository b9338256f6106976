//! What `hubrelay demo` serves beside the relay's own routes: the live page at `/`, and the security backend the page
//! talks to.
//!
//! The page is a client like any other: it creates a session, opens a Socket.IO connection and reads and subscribes
//! through the public API. Only what a customer's security backend would do is done for it here, under `/demo`, because
//! that takes the admin key and the admin key never reaches a browser.
//!
//! This backend grants whatever it is asked for, which is right for simulated devices and nothing else: `serve` has
//! none of these routes.

mod page;
mod security_backend;

use axum::Router;
use axum::http::HeaderValue;

use self::security_backend::SecurityBackend;

/// The routes of the demo: `/`, `/assets/…` and `/demo/…`.
///
/// `api` is the relay's REST API, called in-process; `admin_key` is one of its two keys. `device_ids` are the devices to
/// show, in the order of the table, and `own_device_id` the one that users connect as, which is shown from its first
/// value on.
pub fn router(
    api: Router,
    admin_key: HeaderValue,
    device_ids: Vec<String>,
    own_device_id: String,
) -> Router {
    let backend = SecurityBackend::new(api, admin_key, device_ids, own_device_id);
    page::router().merge(backend.router())
}
