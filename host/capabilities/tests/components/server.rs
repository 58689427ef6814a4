//! A server on loopback that behaves as a test needs.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// What the server does with each request.
#[derive(Clone)]
pub(crate) enum Manners {
    /// Answers with this page.
    Page(String),
    /// Sends this many bytes as fast as they are taken.
    Flood(usize),
    /// Sends the head of an answer and then a byte now and then.
    Drip,
    /// Sends the head of an answer and then nothing.
    HeadOnly,
    /// Says nothing at all.
    Silent,
    /// Sends whoever asks somewhere else.
    Redirect(String),
    /// Answers with the whole request as it came.
    Echo,
}

/// A running server; dropped with the test.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    open: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
    heard: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start(manners: Manners) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (open, most) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let heard = Arc::<Mutex<Vec<String>>>::default();
        let (now_open, most_open, requests) = (open.clone(), most.clone(), heard.clone());
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (open, manners, requests) =
                    (now_open.clone(), manners.clone(), requests.clone());
                most_open.fetch_max(open.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                tokio::spawn(async move {
                    serve(stream, manners, &requests).await;
                    open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self {
            address,
            open,
            most,
            heard,
            task,
        }
    }

    /// The requests answered since the last look.
    pub(crate) fn heard(&self) -> Vec<String> {
        std::mem::take(&mut self.heard.lock().unwrap())
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// Connections open at once, at most so far.
    pub(crate) fn most_open(&self) -> usize {
        self.most.load(Ordering::SeqCst)
    }

    /// Waits until every client has hung up.
    pub(crate) async fn all_closed(&self) {
        let closed = async {
            while self.open.load(Ordering::SeqCst) > 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(5), closed)
            .await
            .expect("a connection outlived its call");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Ends when the client hangs up.
async fn serve(mut stream: TcpStream, manners: Manners, requests: &Mutex<Vec<String>>) {
    let mut head = vec![0; 8 * 1024];
    let Ok(mut length) = stream.read(&mut head).await else {
        return;
    };
    if matches!(manners, Manners::Echo) {
        // Bodies here are chunked.
        while !head[..length].ends_with(b"0\r\n\r\n") {
            match stream.read(&mut head[length..]).await {
                Ok(more) if more > 0 => length += more,
                _ => return,
            }
        }
    }
    let request = String::from_utf8_lossy(&head[..length]).into_owned();
    requests.lock().unwrap().push(request.clone());
    let sent = match &manners {
        Manners::Page(page) => {
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: {}\r\n\r\n",
                page.len()
            );
            stream.write_all(format!("{head}{page}").as_bytes()).await
        }
        Manners::Flood(bytes) => {
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {bytes}\r\n\r\n"
            );
            match stream.write_all(head.as_bytes()).await {
                Ok(()) => stream.write_all(&vec![b'x'; *bytes]).await,
                failed => failed,
            }
        }
        Manners::Drip => {
            let head = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 1000000\r\n\r\n").await;
            let mut sent = head;
            while sent.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
                sent = stream.write_all(b"x").await;
            }
            sent
        }
        Manners::HeadOnly => {
            stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n")
                .await
        }
        Manners::Echo => {
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
            stream
                .write_all(format!("{head}{request}").as_bytes())
                .await
        }
        Manners::Silent => Ok(()),
        Manners::Redirect(to) => {
            let answer =
                format!("HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n");
            stream.write_all(answer.as_bytes()).await
        }
    };
    if sent.is_ok() {
        // Until the other side is done.
        while matches!(stream.read(&mut head).await, Ok(n) if n > 0) {}
    }
}
