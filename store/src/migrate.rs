//! The tables `leveret_*`, made step by step. A table of its own says which steps were taken, so that it does not
//! meet the application's migrations.

/// A number, and the statements that lead from the one before to it.
pub(crate) type Step = (i32, &'static str);

pub(crate) const MAKE_VERSIONS: &str = "CREATE TABLE leveret_migrations (version INTEGER PRIMARY KEY)";
pub(crate) const VERSIONS: &str = "SELECT version FROM leveret_migrations";
pub(crate) const TAKEN: &str = "INSERT INTO leveret_migrations (version) VALUES ($1)";

/// Takes the steps that were not taken yet, in a transaction that keeps others from doing the same.
macro_rules! take_steps {
    ($transaction:expr, $versions_table:expr, $steps:expr) => {{
        let there: Option<String> = sqlx::query_scalar($versions_table).fetch_one(&mut *$transaction).await?;
        if there.is_none() {
            sqlx::raw_sql($crate::migrate::MAKE_VERSIONS).execute(&mut *$transaction).await?;
        }
        let taken: Vec<i32> = sqlx::query_scalar($crate::migrate::VERSIONS).fetch_all(&mut *$transaction).await?;
        for (version, statements) in $steps.iter().filter(|(version, _)| !taken.contains(version)) {
            sqlx::raw_sql(*statements).execute(&mut *$transaction).await?;
            sqlx::query($crate::migrate::TAKEN).bind(*version).execute(&mut *$transaction).await?;
        }
        $transaction.commit().await
    }};
}
pub(crate) use take_steps;
