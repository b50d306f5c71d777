package dbs_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	openapi "github.com/alibabacloud-go/darabonba-openapi/v2/client"
	openapiutil "github.com/alibabacloud-go/darabonba-openapi/v2/utils"
	"github.com/alibabacloud-go/tea/dara"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"increment-backup-download/tests/standin"
	"increment-backup-download/tests/standin/dbs"
)

// parameters of a call.
type parameters map[string]string

// call calls an operation as any OpenAPI client does.
func call(server *standin.Server, key standin.Key, action string, given parameters) (map[string]any, error) {
	config := &openapiutil.Config{
		AccessKeyId: &key.ID, AccessKeySecret: &key.Secret,
		Endpoint: dara.String(strings.TrimPrefix(server.URL, "http://")), Protocol: dara.String("HTTP"),
	}
	if key.Token != "" {
		config.SecurityToken = &key.Token
	}
	client, err := openapi.NewClient(config)
	if err != nil {
		return nil, err
	}
	client.DisableSDKError = dara.Bool(true)
	query := make(map[string]any)
	for name, value := range given {
		query[name] = value
	}
	answer, err := client.CallApi(&openapiutil.Params{
		Action: &action, Version: dara.String(dbs.Version), Protocol: dara.String("HTTP"), Pathname: dara.String("/"), Method: dara.String(http.MethodPost),
		AuthType: dara.String("AK"), Style: dara.String("RPC"), ReqBodyType: dara.String("formData"), BodyType: dara.String("json"),
	}, &openapiutil.OpenApiRequest{Query: openapiutil.Query(query)}, &dara.RuntimeOptions{})
	if err != nil {
		return nil, err
	}
	body, _ := answer["body"].(map[string]any)
	return body, nil
}

// code is the error code that a call was refused with.
func code(t *testing.T, err error) string {
	t.Helper()
	var refused *openapi.ClientError
	require.ErrorAs(t, err, &refused)
	return *refused.Code
}

func start(t *testing.T) (*dbs.Service, *standin.Server, standin.Key) {
	t.Helper()
	key := standin.NewKey()
	service := dbs.New(standin.NewKeys(key), nil)
	server, err := standin.Start(service)
	require.NoError(t, err)
	t.Cleanup(server.Close)
	return service, server, key
}

func TestService_CountsCallsByOperation(t *testing.T) {
	for name, c := range map[string]struct {
		handler func(*dbs.Service) http.Handler
		calls   int
	}{
		"alone":              {func(s *dbs.Service) http.Handler { return s }, 3},
		"with faults before": {func(s *dbs.Service) http.Handler { return standin.WithFaults(s) }, 3},
	} {
		t.Run(name, func(t *testing.T) {
			key := standin.NewKey()
			service := dbs.New(standin.NewKeys(key), nil)
			server, err := standin.Start(c.handler(service))
			require.NoError(t, err)
			t.Cleanup(server.Close)
			service.AddPlan("dbsplan")
			for range 2 {
				_, err = call(server, key, dbs.ActionListSets, parameters{"BackupPlanId": "dbsplan"})
				require.NoError(t, err)
			}
			_, err = call(server, key, dbs.Action, parameters{"BackupSetId": "a", "BackupSetName": "b", "ClientToken": "c"})
			require.NoError(t, err)
			total, forToken := service.Calls("c")
			assert.Equal(t, []int{c.calls, 1, 2, 0, 1}, []int{total, forToken,
				service.CallsOf(dbs.ActionListSets), service.CallsOf(dbs.ActionListTasks), service.CallsOf(dbs.Action)})
		})
	}
}

func TestService_EnforcesThePolicyForEachOperation(t *testing.T) {
	good := map[string]parameters{
		dbs.Action:          {"BackupSetId": "a", "BackupSetName": "b"},
		dbs.ActionListSets:  {"BackupPlanId": "dbsplan"},
		dbs.ActionListTasks: {"BackupPlanId": "dbsplan"},
		dbs.ActionListPlans: {},
	}
	for allowed := range good {
		t.Run(allowed, func(t *testing.T) {
			service, server, key := start(t)
			service.AddPlan("dbsplan")
			policy, err := standin.ParsePolicy(fmt.Appendf(nil, `{"Statement":[{"Effect":"Allow","Action":["dbs:%s"],"Resource":["*"]}]}`, allowed))
			require.NoError(t, err)
			service.Policy = policy
			for action, given := range good {
				_, err := call(server, key, action, given)
				if action == allowed {
					require.NoError(t, err)
					continue
				}
				assert.Equal(t, "Request.Forbidden", code(t, err), action)
			}
			assert.Empty(t, policy.Unused())
		})
	}
}

// The documentation names the plans as the resource of that list, not all resources.
func TestService_EnforcesTheResourceOfTheListOfPlans(t *testing.T) {
	for resource, refused := range map[string]string{
		"acs:dbs:*:*:backupplan/*": "", "acs:dbs:cn-hangzhou:1234567890123456:backupplan/*": "",
		"acs:dbs:cn-beijing:*:backupplan/*": "Request.Forbidden", "acs:dbs:*:*:instance/*": "Request.Forbidden",
	} {
		t.Run(resource, func(t *testing.T) {
			service, server, key := start(t)
			policy, err := standin.ParsePolicy(fmt.Appendf(nil,
				`{"Statement":[{"Effect":"Allow","Action":"dbs:DescribeBackupPlanList","Resource":%q}]}`, resource))
			require.NoError(t, err)
			service.Policy = policy
			_, err = call(server, key, dbs.ActionListPlans, nil)
			if refused == "" {
				require.NoError(t, err)
				return
			}
			assert.Equal(t, refused, code(t, err))
		})
	}
}

func TestService_MeetsFaultsByOperation(t *testing.T) {
	key := standin.NewKey()
	service := dbs.New(standin.NewKeys(key), nil)
	faulty := standin.WithFaults(service)
	server, err := standin.Start(faulty)
	require.NoError(t, err)
	t.Cleanup(server.Close)
	service.AddPlan("dbsplan")
	faulty.SetPlan(standin.Choose(
		func(r *http.Request) bool { return dbs.ActionOf(r) == dbs.ActionListTasks },
		standin.Always(standin.Fault{Kind: standin.Refuse, Status: http.StatusForbidden, Code: "Forbidden.RAM"})))
	_, err = call(server, key, dbs.ActionListSets, parameters{"BackupPlanId": "dbsplan"})
	require.NoError(t, err)
	_, err = call(server, key, dbs.ActionListTasks, parameters{"BackupPlanId": "dbsplan"})
	assert.Equal(t, "Forbidden.RAM", code(t, err))
}

// A plan has a finished backup set. Any OpenAPI client finds it, and has it
// downloaded; one with unknown credentials does not.
func Example() {
	key := standin.NewKey()
	service := dbs.New(standin.NewKeys(key), nil)
	service.AddSet("dbsqdss5tmh0001", dbs.Set{JobID: "1hv5g9wk0001", Name: "mysql-bin.000054"})
	server, err := standin.Start(service)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer server.Close()

	list, err := call(server, key, dbs.ActionListSets, parameters{"BackupPlanId": "dbsqdss5tmh0001", "PageSize": "100"})
	fmt.Println(list["TotalElements"], err)
	set := parameters{"BackupSetId": "1hv5g9wk0001", "BackupSetName": "mysql-bin.000054", "ClientToken": "event-1"}
	created, err := call(server, key, dbs.Action, set)
	fmt.Println(created["BackupSetDownloadTaskId"], err)
	fmt.Println(service.ListedTasks("dbsqdss5tmh0001")[0].Status)

	_, err = call(server, standin.NewKey(), dbs.Action, set)
	var refused *openapi.ClientError
	fmt.Println(errors.As(err, &refused), *refused.Code)
	// Output:
	// 1 <nil>
	// 1jydacm000001 <nil>
	// running
	// true InvalidAccessKeyId.NotFound
}
