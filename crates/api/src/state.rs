//! What every handler shares.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use accounts::Accounts;
use events::id::{AssetId, TenantId, UserId};
use events::store::{Log, Wake, bounds};
use events::subscription::{Lag, watch_lag};
use moka::future::Cache;
use service::clock::Clock;
use service::mac::MacKey;
use service::secret::Secret;
use service::shutdown::Shutdown;
use service::slots::Slots;
use sqlx::PgPool;
use storage::{Key, Store};
use tokio::sync::{Notify, OnceCell, Semaphore, watch};

use crate::auth::{Issuers, Verifier};
use crate::command::sight::Posts;
use crate::command::upload::notice::Topic;
use crate::command::upload::sweep::keep_sweeping;
use crate::config::{Config, ConfigError};
use crate::limit::rate::{Rates, keep_tidy};
use crate::limit::{
    AWAITING, CHECKING, DRAWING, EXPORTS, InFlight, LIVE, LOOKING, RESERVING, UPLOADS,
    VERIFICATIONS,
};
use crate::live::hub::{Hub, keep_waking};
use crate::problem::Problem;
use crate::query::hot::Hot;
use crate::signed::cursor::Cursors;
use crate::signed::position::Positions;
use crate::views::Views;

/// The shortest secret that is one.
const SECRET_MIN: usize = 32;
/// How long the names of the live generations are remembered; rebuilds are rare.
const GENERATION_TTL: Duration = Duration::from_secs(1);

/// Of so many posts is remembered what never changes.
const POSTS: u64 = 100_000;

/// What the routes need; clones share it.
#[derive(Clone)]
pub struct ApiState(Arc<Shared>);

/// See [`ApiState`].
pub struct Shared {
    pub(crate) config: Config,
    pub(crate) log: Log,
    pub(crate) pool: PgPool,
    pub(crate) store: Store,
    pub(crate) clock: Clock,
    pub(crate) shutdown: Shutdown,
    pub(crate) verifier: Verifier,
    pub(crate) issuers: Issuers,
    pub(crate) accounts: Accounts,
    pub(crate) cursors: Cursors,
    pub(crate) positions: Positions,
    /// Under which command bodies are hashed: the log keeps the hash, and a plain one of a short text is the text.
    pub(crate) bodies: MacKey,
    pub(crate) generations: Cache<(), Arc<BTreeMap<String, String>>>,
    pub(crate) hot: Hot,
    pub(crate) posts: Posts,
    pub(crate) in_flight: InFlight,
    /// Bodies that are under way, by the address that they come from; and those of uploads to the folder.
    pub(crate) sending: Slots<String>,
    pub(crate) uploads: Slots<String>,
    /// Uploads to the folder, by the object's key.
    pub(crate) uploading: Slots<Key>,
    pub(crate) verifying: Slots<AssetId>,
    /// Uploads that are being completed, by who says that they are.
    pub(crate) completing: Slots<(TenantId, UserId)>,
    /// Uploads that are being allowed, by whose they are.
    pub(crate) reserving: Slots<(TenantId, UserId)>,
    /// Live streams, by who follows.
    pub(crate) following: Slots<(TenantId, UserId)>,
    /// Exports under way, by whose they are: each reads the whole log.
    pub(crate) exporting: Slots<(TenantId, UserId)>,
    /// Streams that wait for news, by whose they are.
    pub(crate) waiting: Slots<(TenantId, UserId)>,
    /// Of requests that wait for read models, so many look at a time.
    pub(crate) awaiting: Semaphore,
    /// Of those that were woken, so many look at a time; and of those that follow an asset.
    pub(crate) looking: Semaphore,
    pub(crate) watching: Semaphore,
    /// Of those that nothing happens to, so many ask at a time whether they may still listen.
    pub(crate) checking: Semaphore,
    /// Waveforms that are drawn at a time: each may be large.
    pub(crate) drawing: Semaphore,
    pub(crate) rates: Rates,
    /// Whose notices of storage are believed.
    pub(crate) topic: Option<Topic>,
    /// Tells that somebody said that an upload has come.
    pub(crate) to_sweep: Notify,
    hub: OnceCell<Hub>,
    /// Looks at posts that are not written yet.
    pub(crate) views: Views,
    lags: OnceLock<watch::Receiver<Option<Arc<Vec<Lag>>>>>,
    wake: OnceLock<Wake>,
}

impl ApiState {
    /// `pool` has the rights of `Role::Api`, `credentials` those of `Role::Accounts`; `log` may append.
    pub async fn new(
        config: Config,
        log: Log,
        (pool, credentials): (PgPool, PgPool),
        store: Store,
        clock: Clock,
        shutdown: Shutdown,
    ) -> Result<Self, ConfigError> {
        let secret = config.secret_key.as_ref();
        let secret = secret.filter(|secret| secret.expose().len() >= SECRET_MIN);
        let secret = secret.ok_or(ConfigError::SecretKey)?.clone();
        let root = root_key(&secret);
        let accounts = Accounts::new(credentials, &config.accounts, &root, &shutdown)?;
        let issuers = match &config.jwt_issuers {
            Some(file) => Issuers::read(file, &accounts, &shutdown).await?,
            None => Issuers::default(),
        };
        let topic = config.storage_notice_topic.as_deref();
        let topic = topic.map(|arn| Topic::new(arn, config.storage_notice_origin.as_ref()));
        let topic = topic.transpose()?;
        let state = Self(Arc::new(Shared {
            verifier: Verifier::new(&secret),
            issuers,
            accounts,
            cursors: Cursors::new(root.derive("cursor")),
            positions: Positions::new(root.derive("position"), log.id()),
            bodies: root.derive("body"),
            store: store.with_signing(&root),
            generations: Cache::builder()
                .max_capacity(1)
                .time_to_live(GENERATION_TTL)
                .build(),
            hot: Hot::default(),
            posts: Cache::new(POSTS),
            in_flight: InFlight::new(config.max_in_flight),
            sending: Slots::new(config.max_in_flight, config.max_in_flight.div_ceil(4)),
            uploads: Slots::new(UPLOADS.0, UPLOADS.1),
            uploading: Slots::new(UPLOADS.0, 1),
            verifying: Slots::new(VERIFICATIONS.0, 1),
            completing: Slots::new(VERIFICATIONS.0, VERIFICATIONS.1),
            reserving: Slots::new(RESERVING.0, RESERVING.1),
            following: Slots::new(LIVE.0, LIVE.1),
            exporting: Slots::new(EXPORTS, 1),
            waiting: Slots::new(config.max_live, LIVE.1),
            awaiting: Semaphore::new(AWAITING),
            looking: Semaphore::new(LOOKING),
            watching: Semaphore::new(LOOKING),
            checking: Semaphore::new(CHECKING),
            drawing: Semaphore::new(DRAWING),
            rates: Rates::new(&config.rate_limits),
            topic,
            to_sweep: Notify::new(),
            hub: OnceCell::new(),
            views: Views::default(),
            lags: OnceLock::new(),
            wake: OnceLock::new(),
            config,
            log,
            pool,
            clock,
            shutdown,
        }));
        state.shutdown.spawn(keep_sweeping(state.clone()));
        state.shutdown.spawn(keep_tidy(state.clone()));
        Ok(state)
    }

    /// How far behind the read models are, as far as that is known. Looks, once a second, from the first reader on.
    pub(crate) fn lags(&self) -> Option<Arc<Vec<Lag>>> {
        let start = || watch_lag(self.pool.clone(), &self.shutdown);
        self.lags.get_or_init(start).borrow().clone()
    }

    /// Who waits for news. Reads the log, once for all of them, from the first one on.
    pub(crate) async fn hub(&self) -> Result<Hub, Problem> {
        let start = async || {
            let from = bounds(&self.pool).await?.head;
            let hub = Hub::default();
            self.shutdown
                .spawn(keep_waking(self.clone(), hub.clone(), from));
            Ok::<_, Problem>(hub)
        };
        self.hub.get_or_try_init(start).await.cloned()
    }

    /// Tells when the log has grown. Listens, on a connection of its own, from the first reader on who wants to know.
    pub(crate) fn wake(&self) -> Wake {
        let start = || Wake::start(self.pool.clone(), &self.shutdown);
        self.wake.get_or_init(start).clone()
    }
}

impl std::ops::Deref for ApiState {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

/// The key that all others are derived from.
pub(crate) fn root_key(secret: &Secret) -> MacKey {
    MacKey::new(secret.expose().as_bytes())
}
