//! Addresses, and listeners that do what a test says.

use std::net::{Ipv4Addr, SocketAddr};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// Where nobody listens, and where nobody else of this test run ever will: all of 127/8 is this
/// machine, so each caller gets an address of its own.
pub(crate) fn free_address() -> SocketAddr {
    std::net::TcpListener::bind((own_ip(), 0))
        .unwrap()
        .local_addr()
        .unwrap()
}

/// The same over IPv6, where there is only one address for all.
pub(crate) fn free_address_v6() -> SocketAddr {
    std::net::TcpListener::bind("[::1]:0")
        .unwrap()
        .local_addr()
        .unwrap()
}

/// A listener on an address of its own.
pub(crate) async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((own_ip(), 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

fn own_ip() -> Ipv4Addr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // 18 bits tell processes apart, 6 the addresses of one: 127.0.0.1 is nobody's.
    let process = process::id() & 0x3_ffff;
    let own = NEXT.fetch_add(1, Ordering::Relaxed) & 0x3f;
    Ipv4Addr::from_bits(0x7f00_0000 | process << 6 | own)
}

/// A server that reads what comes first from each client and then does `answer`.
pub(crate) async fn serve<F>(answer: impl Fn(TcpStream, String) -> F + Send + 'static) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let (listener, address) = listen().await;
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 4096];
            let length = stream.read(&mut request).await.unwrap_or(0);
            let request = String::from_utf8_lossy(&request[..length]).into_owned();
            tokio::spawn(answer(stream, request));
        }
    });
    address
}

/// A server that answers each client with these pieces, `pause` apart, and closes.
pub(crate) async fn serve_pieces(pieces: Vec<Vec<u8>>, pause: Duration) -> SocketAddr {
    serve(move |mut stream, _| {
        let pieces = pieces.clone();
        async move {
            stream.set_nodelay(true).unwrap();
            for piece in pieces {
                if stream.write_all(&piece).await.is_err() {
                    return;
                }
                tokio::time::sleep(pause).await;
            }
        }
    })
    .await
}

/// A server that takes connections and never says a word.
pub(crate) async fn serve_silence() -> SocketAddr {
    serve(|stream, _| async move {
        tokio::time::sleep(Duration::from_secs(60)).await;
        drop(stream);
    })
    .await
}

/// An address whose SYNs are dropped, as by a firewall or a dead host: a listener whose queue of
/// unaccepted connections is full. Works as long as the second value lives.
pub(crate) async fn black_hole() -> (SocketAddr, impl Sized) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((own_ip(), 0).into()).unwrap();
    let listener = socket.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    while let Ok(connected) =
        tokio::time::timeout(Duration::from_millis(100), TcpStream::connect(address)).await
    {
        waiting.push(connected.unwrap());
        assert!(waiting.len() < 10, "the queue never fills up");
    }
    (address, (listener, waiting))
}
