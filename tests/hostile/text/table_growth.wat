;; Two tables, grown in turn by 1,000 elements each until one is refused; then it gives up.
(memory (export "memory") 1)
(table $a 0 funcref) (table $b 0 externref)
(func (export "run") (param i64) (result i64)
  (block $full (loop $again
    (br_if $full (i32.eq (table.grow $a (ref.null func) (i32.const 1000)) (i32.const -1)))
    (br_if $full (i32.eq (table.grow $b (ref.null extern) (i32.const 1000)) (i32.const -1)))
    (br $again)))
  unreachable)
