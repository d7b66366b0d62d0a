//! The desk of a person who captures the memory of A, which is isolated in the world in memory.

use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use ec2_isolation::operator::{Broken, Capture, Image, Watch, Wish};

use super::super::operator;
use super::super::status::isolated;
use crate::A;
use crate::ssh::{Desk, sha256, user};
use crate::world::World;

pub struct Bench {
    desk: Desk,
    pub world: World,
}

impl Deref for Bench {
    type Target = Desk;

    fn deref(&self) -> &Desk {
        &self.desk
    }
}

/// How far it was, and whether it is to end once bytes have come.
#[derive(Default)]
pub struct Watching {
    pub bytes: AtomicU64,
    pub stop: AtomicBool,
    pub is_impatient: bool,
}

impl Watch for Watching {
    fn step(&self, _: &str) {}

    fn copied(&self, bytes: u64, _: u64, _: Duration) {
        self.bytes.store(bytes, Ordering::Relaxed);
        if self.is_impatient && bytes > 0 {
            self.stop.store(true, Ordering::Relaxed);
        }
    }
}

impl Bench {
    /// A is isolated, and everything is as it should be.
    /// `None` on a machine without an ssh server.
    pub async fn new() -> Option<Self> {
        Some(Self { desk: Desk::new()?, world: isolated().await })
    }

    pub fn wish(&self, to: &str) -> Wish {
        let key = self.text("key");
        Wish {
            user: user().parse().unwrap(),
            key: Some(key.clone()),
            address: Some(self.instance().parse().unwrap()),
            host: Some(self.host().parse().unwrap()),
            host_user: user().parse().unwrap(),
            host_key: Some(key),
            avml: self.path("avml"),
            avml_sha256: Some(sha256(&self.path("avml"))),
            to: to.parse().unwrap(),
            scratch: "/dev/shm".parse().unwrap(),
        }
    }

    /// `to` a file is meant at the desk.
    pub async fn capture(&self, to: &str) -> Capture {
        let to = if to.starts_with("host") { to.to_owned() } else { self.text(&format!("desk/{to}")) };
        self.wished(self.wish(&to)).await
    }

    pub async fn wished(&self, wish: Wish) -> Capture {
        let program = operator(&self.world);
        let instance = A.parse().unwrap();
        let incident = program.incident(&program.incident_of(&instance).await.unwrap()).await.unwrap();
        let mut capture = program.memory(&incident, &instance, wish).await.unwrap();
        capture.route.folder = self.text("desk/ssh");
        capture
    }

    pub async fn run(&self, to: &str) -> Result<Image, Broken> {
        let watching = Watching::default();
        self.capture(to).await.carry_out(&watching, &watching.stop)
    }

    /// Why there is no image.
    pub async fn broken(&self, to: &str) -> Broken {
        self.run(to).await.expect_err("there is no image")
    }
}
