//! Both databases take the same statements and give the same answers.

#![expect(clippy::unwrap_used, reason = "a test reports by failing")]

use leveret_producer::centre::database::{Database, DatabaseUrl, Value};
use leveret_testkit::Postgres;

async fn both(test: impl AsyncFn(Database)) {
    let folder = tempfile::tempdir().unwrap();
    let sqlite: DatabaseUrl = format!("sqlite:{}/centre.db", folder.path().display()).parse().unwrap();
    let postgres = Postgres::shared().await.database().await;
    for url in [sqlite, postgres.url().parse().unwrap()] {
        let database = Database::open(&url).await.unwrap();
        // Again, as a second centre does it.
        Database::open(&url).await.unwrap().close().await;
        test(database.clone()).await;
        database.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn values_come_back_as_they_went_in() {
    both(async |database: Database| {
        let mut transaction = database.begin().await.unwrap();
        transaction.execute("CREATE TABLE probe (a TEXT, b BIGINT, c BYTEA)", []).await.unwrap();
        let insert = "INSERT INTO probe (a, b, c) VALUES ($1, $2, $3)";
        let bytes = vec![0, 159, 255];
        let all = ["zero \0 ü".into(), i64::MAX.into(), Value::Bytes(bytes.clone())];
        assert_eq!(transaction.execute(insert, all).await.unwrap(), 1);
        let none = [Value::Text(None), Value::Number(None), Value::Bytes(Vec::new())];
        transaction.execute(insert, none).await.unwrap();
        transaction.commit().await.unwrap();
        let rows = database.fetch("SELECT a, b, c FROM probe ORDER BY b NULLS LAST", []).await.unwrap();
        assert_eq!(rows[0].text("a").unwrap(), "zero \u{fffd} ü");
        assert_eq!((rows[0].number("b").unwrap(), rows[0].bytes("c").unwrap()), (i64::MAX, bytes));
        assert_eq!((rows[1].maybe_text("a").unwrap(), rows[1].maybe_number("b").unwrap()), (None, None));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_is_dropped_has_not_happened() {
    both(async |database: Database| {
        let insert = "INSERT INTO leveret_centre_shards (shard) VALUES ($1)";
        let mut transaction = database.begin().await.unwrap();
        transaction.execute(insert, [7_i64.into()]).await.unwrap();
        drop(transaction);
        assert!(database.fetch("SELECT 1 FROM leveret_centre_shards", []).await.unwrap().is_empty());
        database.execute(insert, [7_i64.into()]).await.unwrap();
        let twice = database.execute(insert, [7_i64.into()]).await.unwrap_err();
        assert!(twice.is_conflict());
    })
    .await;
}

#[test]
fn an_address_never_shows_its_password() {
    let url: DatabaseUrl = "postgres://ann:s3cret@db.example.org/leveret?sslmode=require".parse().unwrap();
    assert_eq!(url.to_string(), "postgres://db.example.org/leveret");
    assert!(!format!("{url:?}").contains("s3cret"));
    for wrong in ["", "mysql://x", "sqlite:", "leveret.db"] {
        assert!(wrong.parse::<DatabaseUrl>().is_err(), "{wrong}");
    }
}
