//! TLS: certificates of the service, their renewal, and certificates of callers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use messenger_connector::api::pb;
use messenger_connector::callers::key_hash;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Error, Identity};
use tonic::{Code, Status};

use crate::certificates::{Authority, Files, shown};
use crate::command;
use crate::harness::{self, KeyedClient, Stack, in_time, keyed, text_request, write};

async fn start(files: &Files, more: &[&str]) -> Stack {
    let tls = files.arguments();
    let tls: Vec<_> = tls.iter().map(String::as_str).collect();
    harness::start_with(&[&tls, more].concat()).await
}

/// A connection that trusts an authority, and shows a certificate if there is one.
async fn connect(
    stack: &Stack,
    authority: &Authority,
    identity: Option<(String, String)>,
) -> Result<Channel, Error> {
    let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authority.pem()));
    if let Some((certificate, key)) = identity {
        tls = tls.identity(Identity::from_pem(certificate, key));
    }
    let port = stack.address.rsplit(':').next().unwrap();
    Endpoint::from_shared(format!("https://localhost:{port}")).unwrap().tls_config(tls)?.connect().await
}

async fn send(client: &mut KeyedClient) -> Result<(), Status> {
    client.send_text_message(text_request("7", "x")).await.map(drop)
}

#[tokio::test]
async fn calls_are_encrypted_and_the_service_proves_itself() {
    let files = Files::new();
    let stack = start(&files, &["--page-access-token", "t"]).await;
    let mut client = keyed(connect(&stack, &files.authority, None).await.unwrap(), None);
    send(&mut client).await.unwrap();
    assert!(connect(&stack, &Authority::new(), None).await.is_err(), "another authority's service");
    // In plain text nobody gets through.
    stack.client.clone().send_text_message(text_request("7", "x")).await.unwrap_err();
    assert_eq!(stack.bodies().await.len(), 1);
}

#[tokio::test]
async fn callers_are_known_by_their_certificates() {
    let files = Files::new();
    let clients = Authority::new();
    write(files.folder.path(), "clients.pem", &clients.pem());
    let callers = format!(
        "[[caller]]\nname = \"shop\"\ntls_name = \"spiffe://example.org/shop\"\n\
         [[caller]]\nname = \"office\"\ntls_name = [\"office.example.org\", \"office\"]\npages = [\"other\"]\n\
         [[caller]]\nname = \"keyed\"\nkey_sha256 = \"{}\"\n",
        hex::encode(key_hash("key"))
    );
    let callers = write(files.folder.path(), "callers.toml", &callers);
    let ca = shown(&files.path("clients.pem"));
    let access = ["--page-access-token", "t", "--callers", &callers, "--tls-client-ca", &ca];
    let stack = start(&files, &access).await;
    let table = [
        (Some(clients.sign(&["spiffe://example.org/shop"], "whatever")), None, Code::Ok),
        (Some(clients.sign(&["x.example.org", "office.example.org"], "")), None, Code::PermissionDenied),
        (Some(clients.sign(&[], "office")), None, Code::PermissionDenied),
        // The common name counts only if there is no other.
        (Some(clients.sign(&["stranger.example.org"], "office")), None, Code::Unauthenticated),
        (None, None, Code::Unauthenticated),
        (None, Some("key"), Code::Ok),
        // A key that is shown decides.
        (Some(clients.sign(&["office.example.org"], "")), Some("key"), Code::Ok),
        (Some(clients.sign(&["spiffe://example.org/shop"], "")), Some("wrong"), Code::Unauthenticated),
    ];
    for (number, (identity, key, expected)) in table.into_iter().enumerate() {
        let mut client = keyed(connect(&stack, &files.authority, identity).await.unwrap(), key);
        let request = pb::SendTextMessageRequest { page_id: "me".into(), ..text_request("7", "x") };
        let code = client.send_text_message(request).await.map_or_else(|status| status.code(), |_| Code::Ok);
        assert_eq!(code, expected, "row {number}");
    }
    // A certificate of a strange authority is not even looked at.
    let forged = Authority::new().sign(&["spiffe://example.org/shop"], "");
    match connect(&stack, &files.authority, Some(forged)).await {
        Err(_) => {}
        Ok(channel) => drop(send(&mut keyed(channel, None)).await.unwrap_err()),
    }
    assert_eq!(stack.bodies().await.len(), 3);
}

#[tokio::test]
async fn commands_reach_a_service_with_tls_and_keys() {
    let files = Files::new();
    let made = command::run(&["key", "shop"]).await;
    let callers = write(files.folder.path(), "callers.toml", &String::from_utf8(made.stderr).unwrap());
    let key_file = write(files.folder.path(), "key", &String::from_utf8(made.stdout).unwrap());
    let stack = start(&files, &["--page-access-token", "t", "--callers", &callers]).await;
    let address = format!("https://localhost:{}", stack.address.rsplit(':').next().unwrap());
    let ca = shown(&files.path("ca.pem"));
    let at = ["--address", &address, "--tls-ca", &ca];
    let send = [&["send", "text", "Hello", "--to", "7", "--messaging-type", "update"], &at[..]].concat();

    let sent = command::run(&[&send[..], &["--key-file", &key_file]].concat()).await;
    assert!(sent.status.success(), "{sent:?}");
    let refused = command::run(&send).await;
    assert!(String::from_utf8(refused.stderr).unwrap().starts_with("UNAUTHENTICATED: credentials"));
    let probed = command::run(&[&["healthcheck"], &at[..]].concat()).await;
    assert_eq!(String::from_utf8(probed.stdout).unwrap(), "SERVING\n", "probes need no key");
    let strange = command::run(&["healthcheck", "--address", &address]).await;
    let strange = String::from_utf8(strange.stderr).unwrap();
    assert!(strange.contains("certificate"), "{strange}");
}

#[tokio::test]
async fn without_callers_every_client_of_the_authority_may_call() {
    let files = Files::new();
    let clients = Authority::new();
    let ca = write(files.folder.path(), "clients.pem", &clients.pem());
    let stack = start(&files, &["--page-access-token", "t", "--tls-client-ca", &ca]).await;
    let identity = clients.sign(&[], "anyone");
    send(&mut keyed(connect(&stack, &files.authority, Some(identity)).await.unwrap(), None)).await.unwrap();
    let status =
        send(&mut keyed(connect(&stack, &files.authority, None).await.unwrap(), None)).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
}

/// The certificate that the service shows to a new connection.
async fn shown_certificate(stack: &Stack, authority: &Authority) -> CertificateDer<'static> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(stack.address.trim_start_matches("http://")).await.unwrap();
    let stream = TlsConnector::from(Arc::new(config)).connect("localhost".try_into().unwrap(), stream).await;
    stream.unwrap().get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
}

#[tokio::test]
async fn a_certificate_is_renewed_under_load_without_one_failed_call() {
    let files = Arc::new(Files::new());
    let stack = Arc::new(start(&files, &["--page-access-token", "t"]).await);
    let (is_over, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let load = |reconnects: bool| {
        let (files, stack, is_over, calls) = (files.clone(), stack.clone(), is_over.clone(), calls.clone());
        tokio::spawn(async move {
            let mut client = keyed(connect(&stack, &files.authority, None).await.unwrap(), None);
            while !is_over.load(Ordering::Relaxed) {
                send(&mut client).await.unwrap();
                calls.fetch_add(1, Ordering::Relaxed);
                if reconnects {
                    client = keyed(connect(&stack, &files.authority, None).await.unwrap(), None);
                }
            }
        })
    };
    let loads = [load(false), load(true), load(true)];
    let before = shown_certificate(&stack, &files.authority).await;
    let (certificate, key) = files.authority.sign(&["localhost"], "second");
    files.replace(&certificate, &key);
    let expected = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
    in_time(async { while shown_certificate(&stack, &files.authority).await != expected {} }).await;
    assert_ne!(before, expected);

    // Files that cannot be used leave it as it is.
    files.replace(&certificate, "no key");
    tokio::time::sleep(messenger_connector::limits::FILES_RELOAD_INTERVAL * 2).await;
    assert_eq!(shown_certificate(&stack, &files.authority).await, expected);
    is_over.store(true, Ordering::Relaxed);
    for load in loads {
        load.await.unwrap();
    }
    println!("{} calls over two certificates", calls.load(Ordering::Relaxed));
}
