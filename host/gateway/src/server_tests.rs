use super::*;
use crate::metrics::Metrics;
use futures::{StreamExt as _, stream};
use std::sync::atomic::AtomicUsize;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::oneshot,
    task::JoinHandle,
};

/// Answers by path: `/now`, `/slow` (200 ms), `/endless` (a stream that says one thing and waits), `/obedient` (one that ends with last
/// words when it is told to).
#[derive(Default)]
struct Fake {
    metrics: Metrics,
    /// Endless streams that were dropped.
    dropped: Arc<AtomicUsize>,
    stopping: CancellationToken,
}

struct OnDrop(Arc<AtomicUsize>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Front for Fake {
    async fn answer(&self, _: Entry, request: Request<Incoming>) -> Response<Body> {
        match request.uri().path() {
            "/slow" => {
                sleep(Duration::from_millis(200)).await;
                Response::new(Body::from("slow"))
            }
            "/endless" => {
                let gone = OnDrop(self.dropped.clone());
                let first = stream::iter([Ok::<_, Infallible>("data: x\n\n")]);
                let rest = stream::once(async move {
                    let _gone = gone;
                    std::future::pending().await
                });
                Response::new(Body::from_stream(first.chain(rest)))
            }
            "/obedient" => {
                let told = self.stopping.clone().cancelled_owned();
                let first = stream::iter([Ok::<_, Infallible>("data: x\n\n")]);
                let last = stream::once(async move {
                    told.await;
                    Ok("data: last words\n\n")
                });
                Response::new(Body::from_stream(first.chain(last)))
            }
            _ => Response::new(Body::from("now")),
        }
    }

    fn connected(&self) -> Counted {
        self.metrics.connection()
    }

    fn stop(&self) {
        self.stopping.cancel();
    }
}

struct Running {
    address: SocketAddr,
    stop: CancellationToken,
    ended: JoinHandle<Ended>,
    fake: Arc<Fake>,
}

async fn start(config: ServerConfig) -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, stop, fake) = (
        listener.local_addr().unwrap(),
        CancellationToken::new(),
        Arc::new(Fake::default()),
    );
    let (front, token) = (fake.clone(), stop.clone());
    let ended = TaskTracker::new().spawn(async move {
        serve(
            vec![(listener, Role::Both)],
            front,
            &Draining::default(),
            config,
            token,
        )
        .await
    });
    Running {
        address,
        stop,
        ended,
        fake,
    }
}

impl Running {
    async fn send(&self, request: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    }

    /// Everything the server answers until it closes.
    async fn whole(&self, request: &str) -> String {
        let mut stream = self.send(request).await;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
}

async fn first_bytes(stream: &mut TcpStream) -> String {
    let mut bytes = [0; 1024];
    let n = stream.read(&mut bytes).await.unwrap();
    String::from_utf8_lossy(&bytes[..n]).into_owned()
}

#[tokio::test]
async fn a_drain_lets_what_is_in_flight_finish() {
    let running = start(ServerConfig::default()).await;
    assert!(running.whole(&get("/now")).await.ends_with("now"));
    let mut slow = running.send("GET /slow HTTP/1.1\r\nhost: a\r\n\r\n").await;
    sleep(Duration::from_millis(50)).await;
    running.stop.cancel();
    let mut answer = String::new();
    slow.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("slow"), "{answer}");
    assert_eq!(running.ended.await.unwrap(), Ended::Drained);
    assert!(TcpStream::connect(running.address).await.is_err());
}

#[tokio::test]
async fn a_drain_cuts_at_its_deadline_and_drops_what_was_running() {
    let running = start(ServerConfig {
        drain: Duration::from_millis(100),
        ..ServerConfig::default()
    })
    .await;
    let mut stream = running
        .send("GET /endless HTTP/1.1\r\nhost: a\r\n\r\n")
        .await;
    assert!(first_bytes(&mut stream).await.contains("200 OK"));
    running.stop.cancel();
    assert_eq!(running.ended.await.unwrap(), Ended::Cut(1));
    assert_eq!(running.fake.dropped.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn at_the_deadline_of_a_drain_answers_end_with_last_words() {
    let running = start(ServerConfig {
        drain: Duration::from_millis(100),
        ..ServerConfig::default()
    })
    .await;
    let mut stream = running
        .send("GET /obedient HTTP/1.1\r\nhost: a\r\n\r\n")
        .await;
    assert!(first_bytes(&mut stream).await.contains("200 OK"));
    running.stop.cancel();
    let mut rest = String::new();
    stream.read_to_string(&mut rest).await.unwrap();
    // The last chunk is there too: the body ended in order.
    assert!(
        rest.contains("last words") && rest.ends_with("0\r\n\r\n"),
        "{rest}"
    );
    assert_eq!(running.ended.await.unwrap(), Ended::Cut(1));
}

#[tokio::test]
async fn a_client_that_goes_away_drops_its_answer() {
    let running = start(ServerConfig::default()).await;
    let mut stream = running
        .send("GET /endless HTTP/1.1\r\nhost: a\r\n\r\n")
        .await;
    assert!(first_bytes(&mut stream).await.contains("200 OK"));
    drop(stream);
    timeout(Duration::from_secs(5), async {
        while running.fake.dropped.load(Ordering::SeqCst) == 0 {
            sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("the answer is dropped");
    running.stop.cancel();
}

#[tokio::test]
async fn heads_are_capped_in_number_size_and_time() {
    let config = ServerConfig {
        header_timeout: Duration::from_millis(100),
        ..ServerConfig::default()
    };
    let running = start(config).await;
    let many = format!(
        "GET / HTTP/1.1\r\nhost: a\r\n{}\r\n",
        "x: y\r\n".repeat(100)
    );
    assert!(running.whole(&many).await.starts_with("HTTP/1.1 431"));
    let long = format!(
        "GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n",
        "y".repeat(64 << 10)
    );
    assert!(running.whole(&long).await.starts_with("HTTP/1.1 431"));
    // Half a head, then nothing: the connection ends.
    assert!(!running.whole("GET / HTTP/1.1\r\nhos").await.contains("200"));
    running.stop.cancel();
}

#[tokio::test]
async fn past_the_cap_connections_wait_and_none_is_lost() {
    let running = start(ServerConfig {
        max_connections: 1,
        ..ServerConfig::default()
    })
    .await;
    let held = running
        .send("GET /endless HTTP/1.1\r\nhost: a\r\n\r\n")
        .await;
    let (answered, mut waits) = oneshot::channel();
    let address = running.address;
    TaskTracker::new().spawn(async move {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(get("/now").as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answered.send(answer).unwrap();
    });
    sleep(Duration::from_millis(100)).await;
    assert!(waits.try_recv().is_err());
    drop(held);
    assert!(waits.await.unwrap().ends_with("now"));
    running.stop.cancel();
}
