//! `face96 serve` as browsers meet it, and as what is no browser: only its folders, only this machine, nobody holds it.
#![cfg(feature = "native")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The program, serving a folder of its own; ended with the test.
struct Server {
    child: Child,
    address: String,
    _root: tempfile::TempDir,
}

impl Server {
    fn start() -> Self {
        let root = tempfile::tempdir().unwrap();
        for folder in ["www", "pkg"] {
            std::fs::create_dir(root.path().join(folder)).unwrap();
        }
        std::fs::write(root.path().join("www/index.html"), "<!DOCTYPE html>").unwrap();
        std::fs::write(root.path().join("pkg/large.wasm"), vec![7u8; 300_000]).unwrap();
        std::fs::write(root.path().join("secret"), "secret").unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_face96"))
            .args(["serve", "--port", "0", "--root"])
            .arg(root.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().trim_start_matches("http://").trim_end_matches('/').to_string();
        Self { child, address, _root: root }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream
    }

    /// Sends bytes and reads to the end.
    fn send(&self, bytes: &[u8]) -> Vec<u8> {
        let mut stream = self.connect();
        // Whoever sends too much is cut off while sending.
        let _ = stream.write_all(bytes);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        answer
    }

    fn get(&self, path: &str) -> Vec<u8> {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn it_listens_on_this_machine_alone_and_serves_its_two_folders() {
    let server = Server::start();
    assert!(server.address.starts_with("127.0.0.1:"), "{}", server.address);
    assert!(server.get("/").starts_with(b"HTTP/1.1 200 OK"));
    assert!(server.get("/pkg/large.wasm").len() > 300_000);
    for path in
        ["/../secret", "/secret", "/pkg/../secret", "//../secret", "/%2e%2e/secret", "/..%2fsecret", "/pkg/..\\secret"]
    {
        let answer = server.get(path);
        assert!(answer.starts_with(b"HTTP/1.1 404"), "{path}: {}", String::from_utf8_lossy(&answer));
        assert!(!answer.ends_with(b"secret"), "{path}");
    }
    // Whoever listens on all addresses of a machine answers on this one too.
    let port = server.address.rsplit(':').next().unwrap();
    assert!(TcpStream::connect(format!("127.0.0.2:{port}")).is_err());
}

#[test]
fn what_is_no_request_is_answered_or_closed_and_the_next_is_served() {
    let server = Server::start();
    let mut hostile: Vec<Vec<u8>> = vec![
        b"\r\n\r\n".to_vec(),
        b"GET\r\n\r\n".to_vec(),
        b"DELETE / HTTP/1.1\r\n\r\n".to_vec(),
        b"GET / HTTP/9\r\n: :\r\nif-none-match\r\n\r\n".to_vec(),
        vec![0xff; 4096],
        vec![b'A'; 1 << 20],
        [&b"GET / HTTP/1.1\r\n"[..], &vec![b'x'; 1 << 20], b"\r\n\r\n"].concat(),
        format!("GET /{} HTTP/1.1\r\n\r\n", "a/".repeat(20_000)).into_bytes(),
    ];
    hostile.push(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n".to_vec());
    for bytes in hostile {
        let answer = server.send(&bytes);
        assert!(
            !answer.starts_with(b"HTTP/1.1 200") || bytes.starts_with(b"GET / HTTP"),
            "{:?}",
            &bytes[..bytes.len().min(20)]
        );
        assert!(server.get("/").starts_with(b"HTTP/1.1 200 OK"), "after {:?}", &bytes[..bytes.len().min(20)]);
    }
}

#[test]
fn slow_and_half_open_connections_do_not_hold_it_and_no_request_is_lost() {
    let server = Server::start();
    let start = Instant::now();
    // Some say nothing, some a letter now and then, some never take their answer.
    let silent: Vec<TcpStream> = (0..100).map(|_| server.connect()).collect();
    let mut slow = server.connect();
    let deaf: Vec<TcpStream> = (0..20)
        .map(|_| {
            let mut stream = server.connect();
            stream.write_all(b"GET /pkg/large.wasm HTTP/1.1\r\n\r\n").unwrap();
            stream
        })
        .collect();
    let clients = 50;
    let requests = 200;
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..clients)
            .map(|client| {
                let server = &server;
                scope.spawn(move || {
                    let answers = (0..requests).map(|i| match (client + i) % 10 {
                        0 => server.get("/pkg/large.wasm").len() > 300_000,
                        1 => server.get("/none").starts_with(b"HTTP/1.1 404"),
                        _ => server.get("/").ends_with(b"<!DOCTYPE html>"),
                    });
                    answers.filter(|good| *good).count()
                })
            })
            .collect();
        let good: usize = threads.into_iter().map(|t| t.join().unwrap()).sum();
        println!("{} of {} requests in {:.1} s", good, clients * requests, start.elapsed().as_secs_f64());
        assert_eq!(good, clients * requests);
    });
    // A letter a second is not enough to keep a connection.
    let mut ended = false;
    while start.elapsed() < Duration::from_secs(40) && !ended {
        ended = slow.write_all(b"G").is_err();
        std::thread::sleep(Duration::from_millis(500));
    }
    assert!(ended, "a slow connection is closed");
    drop((silent, deaf));
    assert!(server.get("/").starts_with(b"HTTP/1.1 200 OK"));
}
