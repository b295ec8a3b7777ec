//! An actix-web application with a node inside: it shows the membership over HTTP and is a subsystem with two joining barriers.
//!
//! ```text
//! phalanx init --name alpha --nodes n0=127.0.0.1:7600 --disk alpha.disk --out alpha
//! phalanx disk create --config alpha/n0.toml
//! cargo run --manifest-path examples/embedding/Cargo.toml -- alpha/n0.toml 127.0.0.1:8080
//! curl http://127.0.0.1:8080/members
//! ```

use actix::prelude::*;
use actix_web::{App, HttpResponse, HttpServer, web};
use phalanx_messages::Level;
use phalanx_messages::membership::BarrierCounts;
use phalanx_node::builder::{Node, NodeHandle, Notification, Subsystem};

struct Audit;

impl Actor for Audit {
    type Context = Context<Self>;
}

impl Handler<Notification> for Audit {
    type Result = Result<(), String>;

    fn handle(&mut self, told: Notification, _: &mut Self::Context) -> Self::Result {
        told.batch.iter().for_each(|notice| println!("{:?} of node {}, {:?}", notice.kind, notice.node, notice.id));
        Ok(()) // the acknowledgement; long work returns a future, and looks at `told.abort`
    }
}

async fn members(node: web::Data<NodeHandle>) -> HttpResponse {
    node.status().await.map_or_else(|| HttpResponse::ServiceUnavailable().finish(), |all| HttpResponse::Ok().json(all))
}

#[actix_web::main]
async fn main() -> anyhow::Result<()> {
    let (file, address) = (std::env::args().nth(1), std::env::args().nth(2));
    let (file, address) =
        file.zip(address).ok_or_else(|| anyhow::anyhow!("usage: phalanx-embedding FILE HOST:PORT"))?;
    let barriers = BarrierCounts { joining: 2, leaving: 1, forced_leaving: 1 };
    let audit = Subsystem::new("audit", Level(500), barriers, Audit.start().recipient());
    let node = Node::from_file(file.as_ref())?.subsystem(audit).start_without_warden()?;
    let shown = web::Data::new(node.clone());
    let app = move || App::new().app_data(shown.clone()).route("/members", web::get().to(members));
    HttpServer::new(app).workers(1).bind(address)?.run().await?; // until Ctrl-C or SIGTERM
    node.leave().await;
    node.ended().await;
    Ok(())
}
