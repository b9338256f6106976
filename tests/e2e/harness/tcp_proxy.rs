//! A TCP proxy whose connections a test can cut.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

/// Forwards every connection to one address.
pub(crate) struct TcpProxy {
    /// Origin at which clients reach the target through it.
    pub(crate) url: String,
    cut: Arc<Mutex<CancellationToken>>,
    _acceptor: AbortOnDropHandle<()>,
}

impl TcpProxy {
    pub(crate) async fn start(target: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let cut = Arc::new(Mutex::new(CancellationToken::new()));
        let acceptor = tokio::spawn(accept(listener, target.to_owned(), Arc::clone(&cut)));
        Self {
            url: format!("http://{address}"),
            cut,
            _acceptor: AbortOnDropHandle::new(acceptor),
        }
    }

    /// Cuts every connection open now; later ones are forwarded again.
    pub(crate) fn cut(&self) {
        std::mem::replace(&mut *self.cut.lock(), CancellationToken::new()).cancel();
    }
}

async fn accept(listener: TcpListener, target: String, cut: Arc<Mutex<CancellationToken>>) {
    let mut connections = JoinSet::new();
    while let Ok((mut client, _)) = listener.accept().await {
        let target = target.clone();
        let cut = cut.lock().clone();
        connections.spawn(async move {
            let forward = async {
                let mut server = TcpStream::connect(target).await?;
                copy_bidirectional(&mut client, &mut server).await
            };
            // Either side's end is the end of both; the test judges by what its client saw.
            let _ = cut.run_until_cancelled(forward).await;
        });
    }
}
