//! Words that mean the same to a tenant's people.

use events::fact::post::Visibility;
use projectors::config::Config;
use projectors::search::query::{self, Search};
use projectors::search::synonym::{replace, synonyms};
use uuid::Uuid;

use crate::finding::{find, publish, words};
use crate::history::{History, user};
use crate::model::{Models, runtime};

async fn mean(models: &Models, meanings: &[&[&str]]) {
    let (mut tx, viewer) = models.read(user(0)).await;
    tx.as_moderator().await.expect("moderate");
    let owned = |list: &&[&str]| list.iter().map(|word| (*word).to_owned()).collect();
    let meanings: Vec<Vec<String>> = meanings.iter().map(owned).collect();
    replace(&mut tx, viewer, &meanings)
        .await
        .expect("replace them");
    tx.commit().await.expect("commit");
}

#[test]
fn a_word_finds_what_means_the_same() {
    runtime().block_on(async {
        let models = Models::create(&Config::default()).await;
        let mut history = History::new();
        let mut say =
            |text, language| publish(&mut history, 0, text, Some(language), Visibility::Public);
        let car = say("Vendo mi coche rojo", "es");
        let cars = say("Los carros rojos y viejos", "es");
        let bus = say("La guagua llega tarde", "es");
        let motor = say("Ein Auto und ein Rad", "de");
        let electric = say("Un vehículo de motor eléctrico", "es");
        let apart = say("Mi vehículo tiene un motor nuevo", "es");
        let tokyo = say("東京の車", "ja");
        models.tell(&history.facts).await;
        let found = async |asked: &str| find(&models, user(1), words(asked)).await;
        let sorted = |mut ids: Vec<Uuid>| {
            ids.sort_unstable();
            ids
        };
        assert_eq!(found("coche").await, [car]);
        assert_eq!(found("vehículo motor").await, [apart, electric]);
        let lists: &[&[&str]] = &[
            &["coche", "carro", "auto", "vehículo de motor", "車"],
            &["guagua", "autobús", "camión"],
        ];
        mean(&models, lists).await;
        let spanish = sorted(vec![car, cars, electric, apart]);
        for asked in ["coche", "COCHES", "carro", "autos", "vehículo motor"] {
            let mut found = found(asked).await;
            // Inflection is a language's own: in another, only the very word is widened.
            found.retain(|one| spanish.contains(one));
            assert_eq!(sorted(found), spanish, "{asked}");
        }
        let all = sorted(vec![car, cars, motor, electric, apart, tokyo]);
        for asked in ["coche", "車"] {
            assert_eq!(sorted(found(asked).await), all, "{asked}");
        }
        assert_eq!(found("camiones").await, [bus], "in whatever number");
        assert_eq!(found("coche rojo").await, [cars, car], "beside other words");
        assert_eq!(
            found("rojo -carro").await,
            Vec::<Uuid>::new(),
            "left out with it"
        );
        assert_eq!(found("\"vendo mi carro\"").await, [car], "in a phrase");
        assert_eq!(
            found("motor").await,
            [apart, electric],
            "a part is not the whole"
        );

        let (mut tx, viewer) = models.read(user(1)).await;
        let kept = synonyms(&mut tx, viewer).await.unwrap();
        assert_eq!(kept.len(), 2);
        assert_eq!(kept[1], ["autobús", "camión", "guagua"]);
        let refused = replace(&mut tx, viewer, &[vec!["a".to_owned(), "b".to_owned()]]).await;
        assert!(refused.is_err(), "who is no moderator changes nothing");

        mean(&models, &[]).await;
        assert_eq!(found("coche").await, [car]);
        let nothing = find(&models, user(1), Search::default()).await;
        assert!(nothing.is_empty());
    });
}

#[test]
fn what_means_the_same_is_marked() {
    runtime().block_on(async {
        let models = Models::create(&Config::default()).await;
        let mut history = History::new();
        let text = "La guagua llega tarde";
        publish(&mut history, 0, text, Some("es"), Visibility::Public);
        models.tell(&history.facts).await;
        mean(&models, &[&["guagua", "autobús"]]).await;
        let (mut tx, viewer) = models.read(user(1)).await;
        let page = query::search(&mut tx, viewer, &words("autobús"), None, 2).await;
        let snippet = page.unwrap().items[0].snippet.clone();
        assert_eq!(snippet.unwrap(), "La <mark>guagua</mark> llega tarde");
    });
}

/// What a query may become is bounded, however many words mean the same.
#[test]
fn a_query_of_many_words_with_many_meanings_ends_soon() {
    runtime().block_on(async {
        let models = Models::create(&Config::default()).await;
        let mut history = History::new();
        let text = "palabra17 entre otras";
        let post = publish(&mut history, 0, text, Some("es"), Visibility::Public);
        models.tell(&history.facts).await;
        let lists: Vec<Vec<String>> = (0..500)
            .map(|list| {
                (0..20)
                    .map(|word| format!("palabra{}", list * 20 + word))
                    .collect()
            })
            .collect();
        let lists: Vec<Vec<&str>> = lists
            .iter()
            .map(|list| list.iter().map(|word| &**word).collect())
            .collect();
        mean(
            &models,
            &lists.iter().map(|list| &**list).collect::<Vec<_>>(),
        )
        .await;
        assert_eq!(find(&models, user(1), words("palabra3")).await, [post]);
        let many = |upto: u32| {
            let each: Vec<String> = (0..upto).map(|n| format!("palabra{}", n * 20)).collect();
            each.join(" or ")
        };
        assert_eq!(find(&models, user(1), words(&many(4))).await, [post]);
        let none = find(&models, user(1), words(&many(400))).await;
        assert!(
            none.is_empty(),
            "what would become too long stays as it was said"
        );
    });
}
