use crate::support::{admitted, block_on, context, runtime};
use ambit_capabilities::{
    Narrowing,
    tool::{Outbound, Reach, ToolCall, ToolError, Toolbox},
};
use ambit_egress::Egress;

fn call(name: &str, arguments: &str) -> ToolCall {
    ToolCall {
        id: "1".to_owned(),
        name: name.to_owned(),
        arguments: arguments.to_owned(),
    }
}

#[test]
fn describes_itself_and_answers_what_its_schema_allows() {
    block_on(async {
        let reach = Reach::new(Outbound::new(Egress::new().unwrap(), 4));
        let tools = Toolbox::new(runtime(), &admitted("tool-datetime"), reach)
            .await
            .unwrap();
        assert!(!tools.describe().is_empty());
        let ctx = context("acme");
        let invoke = async |call| tools.invoke(&ctx, &Narrowing::default(), call).await;

        // Every tool that needs no argument answers without any; the others say which is missing.
        let mut answered = 0;
        for spec in tools.describe() {
            match invoke(call(&spec.name, "{}")).await {
                Ok(output) => {
                    assert!(!output.content.is_empty());
                    answered += 1;
                }
                Err(ToolError::InvalidArguments(what)) => assert!(!what.is_empty()),
                Err(other) => panic!("{}: {other}", spec.name),
            }
            let odd = invoke(call(&spec.name, r#"{"no such argument":1}"#)).await;
            assert!(
                matches!(odd, Err(ToolError::InvalidArguments(_))),
                "{}",
                spec.name
            );
            assert!(matches!(
                invoke(call(&spec.name, "[]")).await,
                Err(ToolError::InvalidArguments(_))
            ));
        }
        assert!(answered > 0, "one of them is the present time");
        assert!(matches!(
            invoke(call("shell", "{}")).await,
            Err(ToolError::UnknownTool(_))
        ));
    });
}
