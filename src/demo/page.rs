//! The page's files, embedded in the binary.
//!
//! Every file has a strong entity tag and is revalidated each time, so that a browser never mixes the files of two
//! versions. The content security policy lets the page load from and connect to its own origin only.

use aws_lc_rs::digest::{SHA256, digest};
use axum::Router;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

/// One embedded file.
struct Asset {
    path: &'static str,
    content_type: &'static str,
    content: &'static str,
}

/// Names a file of `web/`, served below `/assets/`.
macro_rules! asset {
    ($file:literal, $content_type:expr) => {
        Asset {
            path: concat!("/assets/", $file),
            content_type: $content_type,
            content: include_str!(concat!("../../web/", $file)),
        }
    };
}

const INDEX: Asset = Asset {
    path: "/",
    content_type: HTML,
    content: include_str!("../../web/index.html"),
};

const ASSETS: &[Asset] = &[
    INDEX,
    asset!("favicon.svg", SVG),
    asset!("device-panels.css", CSS),
    asset!("panels.css", CSS),
    asset!("style.css", CSS),
    asset!("api.js", JAVASCRIPT),
    asset!("app.js", JAVASCRIPT),
    asset!("chart.js", JAVASCRIPT),
    asset!("device-calls.js", JAVASCRIPT),
    asset!("device-table.js", JAVASCRIPT),
    asset!("dom.js", JAVASCRIPT),
    asset!("explain.js", JAVASCRIPT),
    asset!("field.js", JAVASCRIPT),
    asset!("format.js", JAVASCRIPT),
    asset!("gate.js", JAVASCRIPT),
    asset!("grant-toggle.js", JAVASCRIPT),
    asset!("holdings.js", JAVASCRIPT),
    asset!("inspector.js", JAVASCRIPT),
    asset!("json.js", JAVASCRIPT),
    asset!("method-calls.js", JAVASCRIPT),
    asset!("method-panel.js", JAVASCRIPT),
    asset!("model.js", JAVASCRIPT),
    asset!("protocol-log.js", JAVASCRIPT),
    asset!("scale.js", JAVASCRIPT),
    asset!("session-panel.js", JAVASCRIPT),
    asset!("session.js", JAVASCRIPT),
    asset!("socket.js", JAVASCRIPT),
    asset!("theme-button.js", JAVASCRIPT),
    asset!("theme.js", JAVASCRIPT),
    asset!("twin-panel.js", JAVASCRIPT),
    asset!("twin-row.js", JAVASCRIPT),
    asset!("twin.js", JAVASCRIPT),
];

/// Routes of all files.
pub(super) fn router() -> Router {
    ASSETS.iter().fold(Router::new(), |router, asset| {
        let tag = entity_tag(asset.content);
        router.route(
            asset.path,
            get(async move |headers: HeaderMap| serve(asset, tag, &headers)),
        )
    })
}

fn serve(asset: &'static Asset, tag: HeaderValue, request: &HeaderMap) -> Response {
    let unchanged = request
        .get_all(IF_NONE_MATCH)
        .iter()
        .any(|known| *known == tag);
    let headers = [
        (ETAG, tag),
        (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    ];
    if unchanged {
        return (StatusCode::NOT_MODIFIED, headers).into_response();
    }
    let content_type = HeaderValue::from_static(asset.content_type);
    (headers, [(CONTENT_TYPE, content_type)], asset.content).into_response()
}

fn entity_tag(content: &str) -> HeaderValue {
    let digest = digest(&SHA256, content.as_bytes());
    let tag = format!("\"{}\"", URL_SAFE_NO_PAD.encode(&digest.as_ref()[..12]));
    HeaderValue::try_from(tag).expect("base64 in quotes is visible ASCII")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use axum::body::Body;
    use axum::http::Request;
    use http_body_util::BodyExt as _;
    use tower::ServiceExt as _;

    use super::*;

    async fn get(path: &str, known_tag: Option<&HeaderValue>) -> Response {
        let mut request = Request::get(path);
        if let Some(tag) = known_tag {
            request = request.header(IF_NONE_MATCH, tag);
        }
        router()
            .oneshot(request.body(Body::empty()).unwrap())
            .await
            .unwrap()
    }

    #[tokio::test]
    async fn the_page_comes_with_a_policy_that_allows_its_own_origin_only() {
        let response = get("/", None).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()[CONTENT_TYPE], HTML);
        assert!(
            response.headers()[CONTENT_SECURITY_POLICY]
                .to_str()
                .unwrap()
                .starts_with("default-src 'self'")
        );
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert!(body.starts_with(b"<!doctype html>"));
    }

    #[tokio::test]
    async fn a_known_file_is_not_sent_again() {
        let first = get("/assets/app.js", None).await;
        let again = get("/assets/app.js", Some(&first.headers()[ETAG])).await;
        assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
        assert!(
            again
                .into_body()
                .collect()
                .await
                .unwrap()
                .to_bytes()
                .is_empty()
        );
    }

    #[test]
    fn every_file_of_the_page_is_embedded() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("web");
        let files: BTreeSet<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .filter(|name| name != "index.html")
            .map(|name| format!("/assets/{name}"))
            .chain(["/".to_owned()])
            .collect();
        let embedded: BTreeSet<String> = ASSETS.iter().map(|asset| asset.path.to_owned()).collect();
        assert_eq!(embedded, files);
    }

    /// The page works offline, and its policy forbids what this looks for.
    #[test]
    fn no_file_names_another_origin_or_holds_inline_code() {
        for asset in ASSETS {
            let content = asset.content.replace("http://www.w3.org/", "");
            for forbidden in ["http://", "https://", "style=\"", "onclick=\"", "<style"] {
                assert!(
                    !content.contains(forbidden),
                    "{} holds {forbidden}",
                    asset.path
                );
            }
        }
    }
}
