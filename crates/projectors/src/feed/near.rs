//! Where posts were written, by cells of a geohash.

use events::envelope::Recorded;
use events::fact::Fact;
use events::fact::post::Location;
use events::id::{Position, PostId, TenantId, UserId};
use events::seal::Personal;
use geohash::{Coord, encode, neighbors};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;

use crate::rows::{Row, Rows, row};

#[derive(Clone, PartialEq, Serialize, Deserialize)]
struct NearRow {
    tenant: TenantId,
    cell: String,
    post: PostId,
    position: Position,
    latitude: f64,
    longitude: f64,
}

row!(
    NearRow in "near", key (tenant: TenantId, cell: String, post: PostId),
    "t.tenant = (k->>0)::uuid AND t.cell = k->>1 AND t.post = (k->>2)::uuid",
    ""
);

/// A size of cells: letters of the geohash, metres from south to north, and from west to east at the equator.
struct Size {
    letters: usize,
    height: f64,
    width: f64,
}

/// The sizes that a post is kept in, small to large.
const SIZES: [Size; 4] = [
    Size {
        letters: 6,
        height: 610.0,
        width: 1_220.0,
    },
    Size {
        letters: 5,
        height: 4_880.0,
        width: 4_880.0,
    },
    Size {
        letters: 4,
        height: 19_500.0,
        width: 39_000.0,
    },
    Size {
        letters: 3,
        height: 156_000.0,
        width: 156_000.0,
    },
];

/// The mean radius of the Earth, metres (IUGG).
const EARTH: f64 = 6_371_008.8;

/// Metres between two locations on a sphere (haversine formula).
pub(super) fn distance(a: Location, b: Location) -> f64 {
    let (north, south) = (a.latitude.to_radians(), b.latitude.to_radians());
    let across = (b.longitude - a.longitude).to_radians() / 2.0;
    let along = (south - north) / 2.0;
    let chord = along.sin().powi(2) + north.cos() * south.cos() * across.sin().powi(2);
    2.0 * EARTH * chord.sqrt().min(1.0).asin()
}

/// The smallest cells that surely hold all within `radius` metres of a location: its own and its neighbours. Within 10° of a pole
/// some may be missing.
pub(super) fn cells(location: Location, radius: f64) -> Vec<String> {
    let narrowing = location.latitude.to_radians().cos();
    let reaches = |size: &&Size| size.height.min(size.width * narrowing) >= radius;
    let size = SIZES.iter().find(reaches).unwrap_or(&SIZES[3]);
    let Some(own) = cell(location, size.letters) else {
        return vec![];
    };
    let around = neighbors(&own).map(|n| vec![n.n, n.ne, n.e, n.se, n.s, n.sw, n.w, n.nw]);
    let mut cells = around.unwrap_or_default();
    cells.push(own);
    cells.sort();
    cells.dedup();
    cells
}

/// The cell of so many letters that a location is in.
fn cell(location: Location, letters: usize) -> Option<String> {
    let coordinate = Coord {
        x: location.longitude,
        y: location.latitude,
    };
    encode(coordinate, letters).ok()
}

pub(super) fn handles(fact: &Fact) -> bool {
    matches!(fact, Fact::PostPublished(_) | Fact::PostDeleted(_))
}

/// A post's location never changes: its rows come and go with it.
pub(super) async fn apply(batch: &[Recorded], tx: &mut PgConnection) -> sqlx::Result<()> {
    let gone = batch.iter().filter_map(|recorded| match &recorded.fact {
        Fact::PostDeleted(fact) => Some((recorded.tenant, fact.post)),
        _ => None,
    });
    let published = batch.iter().filter_map(|recorded| {
        let Fact::PostPublished(fact) = &recorded.fact else {
            return None;
        };
        let location: Location = fact
            .location
            .as_ref()
            .and_then(Personal::text)?
            .parse()
            .ok()?;
        Some((recorded, fact.post, location))
    });
    let rows: Vec<NearRow> = published
        .flat_map(|(recorded, post, location)| {
            SIZES.iter().filter_map(move |size| {
                Some(NearRow {
                    tenant: recorded.tenant,
                    cell: cell(location, size.letters)?,
                    post,
                    position: recorded.position,
                    latitude: location.latitude,
                    longitude: location.longitude,
                })
            })
        })
        .collect();
    let gone: Vec<(TenantId, PostId)> = gone.collect();
    if !rows.is_empty() {
        let mut near = Rows::<NearRow>::load(rows.iter().map(Row::key), tx).await?;
        for row in rows {
            let slot = near.slot(row.key());
            *slot = Some(row);
        }
        near.store(tx).await?;
    }
    if !gone.is_empty() {
        sqlx::query(
            "DELETE FROM near t USING jsonb_array_elements($1) k
             WHERE t.tenant = (k->>0)::uuid AND t.post = (k->>1)::uuid",
        )
        .bind(sqlx::types::Json(gone))
        .execute(tx)
        .await?;
    }
    Ok(())
}

pub(super) async fn forget(
    (tenant, author): (TenantId, UserId),
    tx: &mut PgConnection,
) -> sqlx::Result<u64> {
    let done = sqlx::query(
        "DELETE FROM near n USING post p
         WHERE p.tenant = $1 AND p.author = $2 AND n.tenant = $1 AND n.post = p.post",
    )
    .bind(tenant)
    .bind(author)
    .execute(tx)
    .await?;
    Ok(done.rows_affected())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_those_of_the_earth() {
        let at = |latitude, longitude| Location::new(latitude, longitude).unwrap();
        let madrid_to_malaga = distance(at(40.4168, -3.7038), at(36.7213, -4.4214));
        assert!(
            (madrid_to_malaga - 415_800.0).abs() < 1_000.0,
            "{madrid_to_malaga}"
        );
        assert!(distance(at(0.0, 179.999), at(0.0, -179.999)) < 250.0);
        assert!(distance(at(1.0, 1.0), at(1.0, 1.0)) < 0.001);
    }

    #[test]
    fn cells_hold_all_that_is_near() {
        let mut far = vec![];
        for latitude in [-79.0, -36.7, 0.0, 52.5, 60.2, 70.1] {
            for radius in [100.0, 600.0, 5_000.0, 25_000.0] {
                let here = Location::new(latitude, 179.99).unwrap();
                let cells = cells(here, radius);
                for bearing in 0..36 {
                    let (sin, cos) = (f64::from(bearing) * 10.0).to_radians().sin_cos();
                    let degrees = (radius * 0.99 / EARTH).to_degrees();
                    let east = 179.99 + degrees * sin / latitude.to_radians().cos();
                    let east = if east > 180.0 { east - 360.0 } else { east };
                    let there = Location::new(latitude + degrees * cos, east).unwrap();
                    if !cells
                        .iter()
                        .any(|one| cell(there, one.len()).as_ref() == Some(one))
                    {
                        far.push((latitude, radius, bearing));
                    }
                }
            }
        }
        assert_eq!(far, []);
    }
}
