//! The operators' listener: a handful of short, small-headed, buffered answers on loopback, which is what
//! `may_minihttp` is right for.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use may_minihttp::{HttpService, HttpServiceFactory, Request, Response};

/// What operators may see.
#[derive(Clone)]
pub struct View {
    /// Whether new calls are welcome.
    pub ready: Arc<dyn Fn() -> bool + Send + Sync>,
    /// The text of `/metrics`.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
}

/// Listens.
///
/// # Errors
/// When the address is taken.
pub fn start(address: SocketAddr, view: View) -> io::Result<()> {
    // The library binds with SO_REUSEPORT, which would share a taken port in silence.
    drop(std::net::TcpListener::bind(address)?);
    let _listening_for_ever = Factory { view }.start(address)?;
    Ok(())
}

struct Factory {
    view: View,
}

impl HttpServiceFactory for Factory {
    type Service = Service;

    fn new_service(&self, _id: usize) -> Service {
        Service { view: self.view.clone() }
    }
}

struct Service {
    view: View,
}

impl HttpService for Service {
    fn call(&mut self, request: Request, response: &mut Response) -> io::Result<()> {
        let path = request.path().split('?').next().unwrap_or_default();
        if request.method() != "GET" {
            response.status_code(405, "Method Not Allowed").header("allow: GET");
            response.body("use GET\n");
            return Ok(());
        }
        match path {
            "/healthz" => response.body("ok\n"),
            "/readyz" if (self.view.ready)() => response.body("ready\n"),
            "/readyz" => {
                response.status_code(503, "Service Unavailable");
                response.body("stopping\n");
            }
            "/metrics" => {
                response.header("content-type: text/plain; version=0.0.4");
                response.body_vec((self.view.metrics)().into_bytes());
            }
            _ => {
                response.status_code(404, "Not Found");
                response.body("there is /healthz, /readyz and /metrics\n");
            }
        }
        Ok(())
    }
}
