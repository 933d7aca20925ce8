# Made from --help; a test writes it.
_gateway() {
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} path= i
    COMPREPLY=()
    for ((i = 1; i < COMP_CWORD; i++)); do
        case ${COMP_WORDS[i]} in
            --account | --action | --actor | --api-key-env | --api-key-file | --api-version | --base-url | --by | --ca-file | --cache-write-price | --cached-price | --client-cert-file | --client-key-file | --config | --credential-file | --data-dir | --description | --drop-unsupported | --expires | --family | --file | --from | --grace | --head | --header | --input-price | --limit | --log-bodies | --max-output-tokens | --metadata | --model | --model-id | --name | --output | --output-price | --price-from | --project-id | --reasoning-price | --region | --resource | --role | --search | --server-url | --status | --subject | --tag | --target | --team | --to | --token | --type | --url | --user | --valid-days | --virtual-account | --what) ((i++)) ;;
            -*) ;;
            *) path+=" ${COMP_WORDS[i]}" ;;
        esac
    done
    case $before in
        --api-key-file | --ca-file | --client-cert-file | --client-key-file | --config | --credential-file | --data-dir | --file)
            compopt -o default 2>/dev/null
            return
            ;;
        --account | --action | --actor | --api-key-env | --api-version | --base-url | --by | --cache-write-price | --cached-price | --description | --drop-unsupported | --expires | --family | --from | --grace | --head | --header | --input-price | --limit | --log-bodies | --max-output-tokens | --metadata | --model | --model-id | --name | --output | --output-price | --price-from | --project-id | --reasoning-price | --region | --resource | --role | --search | --server-url | --status | --subject | --tag | --target | --team | --to | --token | --type | --url | --user | --valid-days | --virtual-account | --what) return ;;
    esac
    local commands= options=
    case $path in
        '')
            commands='serve check-config admin'
            options='--version --help'
            ;;
        ' serve'*)
            commands=''
            options='--config --demo --data-dir --help'
            ;;
        ' check-config'*)
            commands=''
            options='--config --help'
            ;;
        ' admin')
            commands='user team provider model grant revoke grants token virtual-account catalog settings clock usage logs budget limit apply export explain audit backup restore'
            options='--config --data-dir --url --output --help'
            ;;
        ' admin user')
            commands='create invite list show deactivate activate set-role delete'
            options='--config --data-dir --url --output --help'
            ;;
        ' admin user create'*)
            commands=''
            options='--name --role --config --data-dir --url --output --help'
            ;;
        ' admin user invite'*)
            commands=''
            options='--config --data-dir --url --output --help'
            ;;
        ' admin user list'*)
            commands=''
            options='--search --config --data-dir --url --output --help'
            ;;
        ' admin user show'*)
            commands=''
            options='--config --data-dir --url --output --help'
            ;;
        ' admin user deactivate'*)
            commands=''
            options='--dry-run --config --data-dir --url --output --help'
            ;;
        ' admin user activate'*)
            commands=''
            options='--dry-run --config --data-dir --url --output --help'
            ;;
        ' admin user set-role'*)
            commands=''
            options='--dry-run --config --data-dir --url --output --help'
            ;;
        ' admin user delete'*)
            commands=''
            options='--force --dry-run --config --data-dir --url --output --help'
            ;;
        ' admin team')
            commands='create list show delete add-member remove-member'
            options='--config --data-dir --url --output --help'
            ;;
        ' admin team create'*)
            commands=''
            options='--description --config --data-dir --url --output --help'
            ;;
        ' admin team list'*)
            commands=''
            options='--config --data-dir --url --output --help'
            ;;
        ' admin team show'*)
            commands=''
            options='--config --data-dir --url --output --help'
            ;;
        ' admin team delete'*)
            commands=''
            options='--dry-run --config --data-dir --url --output --help'
            ;;
        ' admin team add-member'*)
            commands=''
            options='--dry-run --config --data-dir --url --output --help'
            ;;
        ' admin team remove-member'*)
            commands=''
            options='--dry-run --config --data-dir --url --output --help'
            ;;
        ' admin provider')
            commands='create list show update set-key delete'
            options='--config --data-dir --url --output --help'
            ;;
        ' admin provider create'*)
            commands=''
            options='--type --base-url --api-key-file --api-key-env --credential-file --region --project-id --api-version --drop-unsupported --log-bodies --client-cert-file --client-key-file --header --ca-file --config --data-dir --url --output --help'
            ;;
        ' admin provider list'*)
            commands=''
            options='--config --data-dir --url --output --help'
            ;;
        ' admin provider show'*)
            commands=''
            options='--config --data-dir --url --output --help'
            ;;
        ' admin provider update'*)
            commands=''
            options='--base-url --api-key-file --api-key-env --credential-file --region --project-id --api-version --drop-unsupported --log-bodies --client-cert-file --client-key-file --header --no-headers --ca-file --config --data-dir --url --output --help'
            ;;
        ' admin provider set-key'*)
            commands=''
            options='--api-key-file --api-key-env --credential-file --remove --config --data-dir --url --output --help'
            ;;
        ' admin provider delete'*)
            commands=''
            options='--dry-run --config --data-dir --url --output --help'
            ;;
        ' admin model')
            commands='add list remove'
            options='--config --data-dir --url --output --help'
            ;;
        ' admin model add'*)
            commands=''
            options='--model-id --type --input-price --output-price --cached-price --cache-write-price --reasoning-price --price-from --public-cost --family --max-output-tokens --region --api-version --server-url --dry-run --config --data-dir --url --output --help'
            ;;
        ' admin model list'*)
            commands=''
            options='--account --config --data-dir --url --output --help'
            ;;
        ' admin model remove'*)
            commands=''
            options='--dry-run --config --data-dir --url --output --help'
            ;;
        ' admin grant'*)
            commands=''
            options='--dry-run --config --data-dir --url --output --help'
            ;;
        ' admin revoke'*)
            commands=''
            options='--dry-run --config --data-dir --url --output --help'
            ;;
        ' admin grants'*)
            commands=''
            options='--subject --target --config --data-dir --url --output --help'
            ;;
        ' admin token')
            commands='create list show rename revoke rotate'
            options='--config --data-dir --url --output --help'
            ;;
        ' admin token create'*)
            commands=''
            options='--user --virtual-account --name --expires --valid-days --config --data-dir --url --output --help'
            ;;
        ' admin token list'*)
            commands=''
            options='--user --virtual-account --config --data-dir --url --output --help'
            ;;
        ' admin token show'*)
            commands=''
            options='--config --data-dir --url --output --help'
            ;;
        ' admin token rename'*)
            commands=''
            options='--config --data-dir --url --output --help'
            ;;
        ' admin token revoke'*)
            commands=''
            options='--dry-run --config --data-dir --url --output --help'
            ;;
        ' admin token rotate'*)
            commands=''
            options='--grace --config --data-dir --url --output --help'
            ;;
        ' admin virtual-account')
            commands='create list show delete'
            options='--config --data-dir --url --output --help'
            ;;
        ' admin virtual-account create'*)
            commands=''
            options='--expires --tag --config --data-dir --url --output --help'
            ;;
        ' admin virtual-account list'*)
            commands=''
            options='--config --data-dir --url --output --help'
            ;;
        ' admin virtual-account show'*)
            commands=''
            options='--config --data-dir --url --output --help'
            ;;
        ' admin virtual-account delete'*)
            commands=''
            options='--dry-run --config --data-dir --url --output --help'
            ;;
        ' admin catalog')
            commands='show import reset'
            options='--config --data-dir --url --output --help'
            ;;
        ' admin catalog show'*)
            commands=''
            options='--config --data-dir --url --output --help'
            ;;
        ' admin catalog import'*)
            commands=''
            options='--config --data-dir --url --output --help'
            ;;
        ' admin catalog reset'*)
            commands=''
            options='--config --data-dir --url --output --help'
            ;;
        ' admin settings')
            commands='get set'
            options='--config --data-dir --url --output --help'
            ;;
        ' admin settings get'*)
            commands=''
            options='--config --data-dir --url --output --help'
            ;;
        ' admin settings set'*)
            commands=''
            options='--yes --dry-run --config --data-dir --url --output --help'
            ;;
        ' admin clock')
            commands='reset'
            options='--config --data-dir --url --output --help'
            ;;
        ' admin clock reset'*)
            commands=''
            options='--config --data-dir --url --output --help'
            ;;
        ' admin usage')
            commands='report export plot'
            options='--config --data-dir --url --output --help'
            ;;
        ' admin usage report'*)
            commands=''
            options='--by --from --to --subject --team --model --account --metadata --config --data-dir --url --output --help'
            ;;
        ' admin usage export'*)
            commands=''
            options='--from --to --subject --team --model --account --metadata --config --data-dir --url --output --help'
            ;;
        ' admin usage plot'*)
            commands=''
            options='--what --by --from --to --team --account --file --config --data-dir --url --output --help'
            ;;
        ' admin logs')
            commands='list show'
            options='--config --data-dir --url --output --help'
            ;;
        ' admin logs list'*)
            commands=''
            options='--from --to --subject --team --model --account --status --metadata --limit --config --data-dir --url --output --help'
            ;;
        ' admin logs show'*)
            commands=''
            options='--from --to --config --data-dir --url --output --help'
            ;;
        ' admin budget')
            commands='list show simulate delete'
            options='--config --data-dir --url --output --help'
            ;;
        ' admin budget list'*)
            commands=''
            options='--config --data-dir --url --output --help'
            ;;
        ' admin budget show'*)
            commands=''
            options='--config --data-dir --url --output --help'
            ;;
        ' admin budget simulate'*)
            commands=''
            options='--user --virtual-account --team --model --tag --config --data-dir --url --output --help'
            ;;
        ' admin budget delete'*)
            commands=''
            options='--config --data-dir --url --output --help'
            ;;
        ' admin limit')
            commands='list show'
            options='--config --data-dir --url --output --help'
            ;;
        ' admin limit list'*)
            commands=''
            options='--config --data-dir --url --output --help'
            ;;
        ' admin limit show'*)
            commands=''
            options='--config --data-dir --url --output --help'
            ;;
        ' admin apply'*)
            commands=''
            options='--dry-run --config --data-dir --url --output --help'
            ;;
        ' admin export'*)
            commands=''
            options='--config --data-dir --url --output --help'
            ;;
        ' admin explain'*)
            commands=''
            options='--token --config --data-dir --url --output --help'
            ;;
        ' admin audit')
            commands='list verify'
            options='--config --data-dir --url --output --help'
            ;;
        ' admin audit list'*)
            commands=''
            options='--actor --action --resource --from --to --refused --limit --config --data-dir --url --output --help'
            ;;
        ' admin audit verify'*)
            commands=''
            options='--head --config --data-dir --url --output --help'
            ;;
        ' admin backup'*)
            commands=''
            options='--with-master-key --force --config --data-dir --url --output --help'
            ;;
        ' admin restore'*)
            commands=''
            options='--force --check --config --data-dir --url --output --help'
            ;;
    esac
    if [[ $word == -* ]]; then commands=$options; fi
    while read -r i; do
        if [[ -n $i ]]; then COMPREPLY+=("$i"); fi
    done < <(compgen -W "$commands" -- "$word")
}
complete -F _gateway gateway
