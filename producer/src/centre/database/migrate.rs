//! The tables `leveret_centre_*`, made step by step. The same statements serve both databases.

use super::{Database, DatabaseError, Kind, Transaction};

/// Statements that lead from the step before to this one. A step that has been released is never changed.
const STEPS: &[(i64, &str)] = &[
    (1, include_str!("../../../migrations/0001_schedules.sql")),
    (2, include_str!("../../../migrations/0002_tasks.sql")),
    (3, include_str!("../../../migrations/0003_access.sql")),
    (4, include_str!("../../../migrations/0004_operations.sql")),
    (5, include_str!("../../../migrations/0005_worker_search.sql")),
    (6, include_str!("../../../migrations/0006_cancels.sql")),
];

const MAKE_STEPS: &str = "CREATE TABLE IF NOT EXISTS leveret_centre_steps (step BIGINT PRIMARY KEY)";
/// Held to the end of the transaction: centres that start at once make the tables one after another.
const LOCK: &str = "SELECT pg_advisory_xact_lock(7305808868966068)";

impl Database {
    pub(super) async fn migrate(&self) -> Result<(), DatabaseError> {
        let failed = |error: DatabaseError| match error {
            DatabaseError::Statement(source) => DatabaseError::Migrate(source),
            other => other,
        };
        let mut transaction = self.begin().await.map_err(failed)?;
        if matches!(self.0, Kind::Postgres(_)) {
            transaction.fetch(LOCK, []).await.map_err(failed)?;
        }
        take(&mut transaction).await.map_err(failed)?;
        transaction.commit().await.map_err(failed)
    }
}

async fn take(transaction: &mut Transaction) -> Result<(), DatabaseError> {
    transaction.execute(MAKE_STEPS, []).await?;
    let rows = transaction.fetch("SELECT coalesce(max(step), 0) AS step FROM leveret_centre_steps", []).await?;
    let taken = rows.first().map(|row| row.number("step")).transpose()?.unwrap_or_default();
    let known = STEPS.last().map_or(0, |(step, _)| *step);
    if taken > known {
        return Err(DatabaseError::Newer { found: taken, known });
    }
    for (step, statements) in STEPS.iter().filter(|(step, _)| *step > taken) {
        // Neither database takes several prepared statements at once; outside of comments, a semicolon ends one.
        let code: Vec<_> = statements.lines().filter(|line| !line.trim_start().starts_with("--")).collect();
        for statement in code.join("\n").split(';').map(str::trim).filter(|statement| !statement.is_empty()) {
            transaction.run(statement).await?;
        }
        transaction.execute("INSERT INTO leveret_centre_steps (step) VALUES ($1)", [(*step).into()]).await?;
    }
    Ok(())
}
