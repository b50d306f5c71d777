// Command empty is a yardstick of the benchmark: a function that does nothing, on
// the same runtime SDK.
package main

import (
	"context"
	"encoding/json"

	"github.com/aliyun/fc-runtime-go-sdk/fc"
)

func main() {
	fc.Start(func(context.Context, []byte) (json.RawMessage, error) { return json.RawMessage("{}"), nil })
}
